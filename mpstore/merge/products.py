"""Inner products of the experts' terms in every block, half of the symmetric matrix each.

Relies on numpy and plan_inputs. Promises: pure; a matrix of all of them is never made, only of the blocks
that are looked at: twenty experts of 8B parameters would fill 200 MB, and as much again at each step of a
formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Floats, Integers

PIECE_ENTRIES: Final = 1 << 14
_MARGIN: Final = 2.0**-22


@dataclass(frozen=True)
class Products:
    """`packed` (N, K (K + 1) / 2): <lambda_i delta_i, lambda_j delta_j> of the pairs (i, j), j <= i, row by
    row. `complete`: each is known; otherwise some are assumed."""

    experts: int
    packed: Floats
    complete: bool

    def of(self, blocks: Integers | slice) -> Floats:
        """The matrices of some blocks, (m, K, K)."""
        matrices: Floats = self.packed[blocks].take(self._places, axis=1)
        return matrices

    @cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        """(K, K): where each entry lies."""
        i, j = np.indices((self.experts, self.experts))
        low, high = np.minimum(i, j), np.maximum(i, j)
        places: npt.NDArray[np.int64] = high * (high + 1) // 2 + low
        return places


@dataclass(frozen=True)
class Terms:
    """What products are made of: `error` (K, N) = |lambda_i delta_i|, `factor` (K, N) = lambda_i, and
    `overlaps`, (row, other row) -> <delta_i, delta_j> (N,), NaN where unknown, for pairs that were compared.

    Overlaps come from |x_j - x_i|^2, a float32 difference, and so with a margin: at most
    2^-23 (|delta_i| + |delta_j|)^2, doubled here.
    """

    error: Floats
    factor: Floats
    overlaps: Mapping[tuple[int, int], Floats]

    def products(self, cosines: Floats | None, tensor: npt.NDArray[np.int32]) -> Products:
        """All inner products; unknown ones as if at the angles `cosines` (T, K, K) says, or (None) parallel,
        which they cannot exceed."""
        experts, blocks = self.error.shape
        packed = np.empty((blocks, experts * (experts + 1) // 2))
        complete = True
        step = max(PIECE_ENTRIES // max(experts, 1), 1)
        for start in range(0, blocks, step):
            piece = slice(start, min(start + step, blocks))
            angles = None if cosines is None else cosines[tensor[piece]]
            found, known = self._products_of(piece, angles)
            packed[piece] = found.T
            complete &= known
        return Products(experts, packed, complete)

    def _products_of(self, piece: slice, cosines: Floats | None) -> tuple[Floats, bool]:
        """The products of some blocks (pairs, m); whether all that matter are known."""
        i, j = np.tril_indices(len(self.error))
        error, factor = self.error[:, piece], self.factor[:, piece]
        size = np.divide(error, np.abs(factor), out=np.zeros_like(error), where=error > 0)
        most = error[i] * error[j]
        out = np.full_like(most, np.nan)
        for place, pair in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
            if pair[0] == pair[1]:
                out[place] = most[place]
            elif pair in self.overlaps or pair[::-1] in self.overlaps:
                known = self.overlaps[pair if pair in self.overlaps else pair[::-1]][piece]
                both = factor[pair[0]] * factor[pair[1]]
                out[place] = both * known
                out[place] += _MARGIN * np.abs(both) * np.square(size[pair[0]] + size[pair[1]])
        unknown = np.isnan(out)
        np.copyto(out, most if cosines is None else most * cosines[:, i, j].T, where=unknown)
        np.clip(out, -most, most, out=out)
        return out, not bool((unknown & (most > 0)).any())
