"""The bound on a merge's error: from |delta| of what is omitted to the norm of the output's deviation.

Relies on numpy and plan_inputs. Promises: for operators with fixed coefficients, |theta_B - theta_full| of
the outputs *as stored* is at most `Certificate.bound`, for every selection, over the elements that are
finite in both. What enters, per block with anything omitted, S being at least |sum over omitted i of
lambda_i delta_i|: the sum of the norms, or less where inner products are known:

  nothing omitted     0
  everything omitted  the output is the base's block itself, b. The full merge computes y in float32 with an
                      error of at most g = (K + 8) 2^-24 (|b| + D), D = S, and stores the value nearest to
                      it; as b is a value of that dtype, rounding adds at most min(D + g, u |y| + e sqrt(n)).
  some omitted        both outputs are computed and rounded: S + 2 (g + u |y| + e sqrt(n)), D over all.

u is `Grid.roundoff`, e `Grid.underflow`, |y| <= |b| + D + g. An output dtype in which b has to be rounded, or
an operator that rescales the base, is treated as the last case throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Grid

_STEP = 2.0**-24
_SLACK = 1.0 + 1e-9  # float64 sums over up to 2^30 terms, and the statistics' own
_BASE_SLACK = 1.0 + 2.0**-22  # for float32 columns


@dataclass(frozen=True)
class Certificate:
    """Per-block terms for one merge: `error` (K, N) is |lambda_i| |delta_ib|, 0 where no candidate;
    `candidate` (K, N); `known` (K, N): error is a fact and not an estimate; `base_scale` (N,); `gram`
    (K, K, N) or None: bounds of <lambda_i delta_ib, lambda_j delta_jb>, where any are known better."""

    grid: Grid
    candidate: Flags
    known: Flags
    error: Floats
    base_scale: Floats
    gram: Floats | None = None

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
        norm: Floats = np.where(omitted, self.error, 0.0).sum(axis=0)
        if self.gram is not None:
            flags = omitted.astype(np.float64)
            norm = np.sqrt(np.maximum(np.einsum("in,ijn,jn->n", flags, self.gram, flags), 0.0))
        return norm

    @cached_property
    def _terms(self) -> tuple[Floats, Floats]:
        tensor = self.grid.tensor_of_block
        norm = self.base_norm * self.base_scale * _BASE_SLACK + self.total
        step = (self.error.shape[0] + 8) * _STEP * norm
        rounding = self.grid.roundoff[tensor] * (norm + step)
        rounding += self.grid.underflow[tensor] * np.sqrt(self.grid.elements)
        partial = 2.0 * (step + rounding)
        together = self.omitted_norm(self.candidate)
        untouched = step + np.minimum(together + step, rounding)
        return np.where(self.grid.keeps_base[tensor], untouched, partial), partial

    @property
    def untouched(self) -> Floats:
        """What arithmetic and rounding add in a block of which nothing is read."""
        return self._terms[0]

    @property
    def partial(self) -> Floats:
        """The same in a block of which some is read and some omitted."""
        return self._terms[1]

    def block_errors(
        self, omitted: Floats, touched: Flags, columns: npt.NDArray[np.int64] | None = None
    ) -> Floats:
        """Bound of each block from its S and whether anything of it is read (of `columns` only)."""
        untouched, partial = self._terms
        if columns is not None:
            untouched, partial = untouched[columns], partial[columns]
        errors: Floats = np.where(omitted > 0, omitted + np.where(touched, partial, untouched), 0.0)
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
        errors = self.block_errors(sums, touched)
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
