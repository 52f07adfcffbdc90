"""The bound on a merge's error: from |delta| of what is omitted to the norm of the output's deviation.

Relies on numpy and plan_inputs. Promises: for operators with fixed coefficients, |theta_B - theta_full| of
the outputs *as stored* is at most `Certificate.bound`, for every selection, over the elements that are
finite in both; unless pairs are known better, reading more never raises it.

Per block, 0 where nothing is omitted. Else let S be at least |sum over omitted i of lambda_i delta_i|: the
sum of the norms, or less where inner products are known; D the sum of all norms, A at least the norm of the
sum over all, at most D.
The full merge computes y in float32, off by at most g = (K + 8) 2^-24 (|b| + D), and stores the nearest value
of the output's dtype, off by at most r = u |y| + e sqrt(n) (u, e: `Grid.roundoff`, `underflow`), and, as the
base b is a value of that dtype, by no more than |y - b| <= A + g. The budgeted merge does the same with what
it reads, |y - b| <= D - S + g; where it reads nothing the output is b itself. Hence

    error <= S + 4 g + min(r, A) + (min(r, D - S) where anything is read)

An output dtype in which b has to be rounded, or an operator that rescales b: S + 4 g + 2 r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Grid
from mpstore.merge.products import PIECE_ENTRIES, Products

_STEP = 2.0**-24
_SLACK = 1.0 + 1e-9  # float64 sums over up to 2^30 terms, and the statistics' own
_BASE_SLACK = 1.0 + 2.0**-22  # for float32 columns


@dataclass(frozen=True)
class Certificate:
    """Per-block terms for one merge: `error` (K, N) is |lambda_i| |delta_ib|, 0 where no candidate;
    `candidate` (K, N); `known` (K, N): error is a fact and not an estimate; `base_scale` (N,);
    `products`: bounds of <lambda_i delta_ib, lambda_j delta_jb>, where any are known better."""

    grid: Grid
    candidate: Flags
    known: Flags
    error: Floats
    base_scale: Floats
    products: Products | None = None

    @cached_property
    def base_norm(self) -> Floats:
        """|b| per block; 0 where unknown."""
        norm: Floats = np.sqrt(np.nan_to_num(self.grid.base_sq, nan=0.0))
        return norm

    @cached_property
    def total(self) -> Floats:
        """D: the sum of norms over all candidates of a block."""
        total: Floats = self.error.sum(axis=0)
        return total

    def omitted_norm(self, omitted: Flags) -> Floats:
        """S per block (N,) for a set of omitted candidates (K, N)."""
        if self.products is None:
            total: Floats = np.where(omitted, self.error, 0.0).sum(axis=0)
            return total
        norm = np.zeros(self.grid.blocks)
        step = max(PIECE_ENTRIES // max(len(omitted), 1), 1)
        for start in range(0, len(norm), step):
            piece = slice(start, start + step)
            flags = omitted[:, piece].astype(np.float64)
            towards = np.einsum("nij,jn->in", self.products.of(piece), flags)
            norm[piece] = np.sqrt(np.maximum((towards * flags).sum(axis=0), 0.0))
        return norm

    @cached_property
    def terms(self) -> tuple[Floats, Floats, Floats]:
        """Per block: arithmetic and the full merge's rounding (4 g + min(r, A)); r; and what of the base's
        side of it counts: D where b is a value of the output's dtype, inf where not."""
        tensor = self.grid.tensor_of_block
        norm = self.base_norm * self.base_scale * _BASE_SLACK + self.total
        arithmetic = (self.error.shape[0] + 8) * _STEP * norm
        rounding = self.grid.roundoff[tensor] * (norm + arithmetic)
        rounding += self.grid.underflow[tensor] * np.sqrt(self.grid.elements)
        keeps = self.grid.keeps_base[tensor]
        whole = self.total if self.products is None else self.omitted_norm(self.candidate)
        together = np.where(keeps, whole, np.inf)
        fixed = 4.0 * arithmetic + np.minimum(rounding, together) + np.where(keeps, 0.0, rounding)
        return fixed, rounding, np.where(keeps, self.total, 0.0)

    def error_of(
        self, columns: npt.NDArray[np.int64] | slice = slice(None)
    ) -> Callable[[Floats, Flags], Floats]:
        """Bound of each block (of `columns` only) from its S and whether anything of it is read."""
        fixed, rounding, total = (term[columns] for term in self.terms)

        def errors(omitted: Floats, touched: Flags) -> Floats:
            own = np.minimum(rounding, np.maximum(total - omitted, 0.0))
            bounds: Floats = np.where(omitted > 0, omitted + fixed + np.where(touched, own, 0.0), 0.0)
            return bounds

        return errors

    def bound(self, selected: Flags) -> float:
        """The bound for one selection (K, N): inf where something of unknown size is omitted."""
        omitted = self.candidate & ~selected
        if bool((omitted & ~self.known).any()):
            return float("inf")
        sums = self.omitted_norm(omitted)
        if bool((np.isnan(self.grid.base_sq) & (sums > 0)).any()):
            return float("inf")
        touched: Flags = np.any(selected, axis=0)
        errors = self.error_of()(sums, touched)
        return float(np.sqrt(np.square(errors).sum())) * _SLACK

    @cached_property
    def norm(self) -> float:
        """|base| over the tensors the statistics know."""
        return float(np.sqrt(np.square(self.base_norm).sum()))

    def relative(self, bound: float) -> float:
        """The bound over |base|; inf where |base| is 0 or unknown and the bound is not 0."""
        if bound == 0.0:
            return 0.0
        return bound / self.norm * _BASE_SLACK if self.norm > 0 else float("inf")
