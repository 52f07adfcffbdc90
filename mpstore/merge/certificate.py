"""The bound on a merge's error: from |delta| of what is omitted to the norm of the output's deviation.

Relies on numpy and plan_inputs. Promises: for operators with fixed coefficients, |theta_B - theta_full| of
the outputs *as stored* is at most `Certificate.bound`, for every selection, over the elements that are
finite in both. What enters, per block with anything omitted, S being at least |sum over omitted i of
lambda_i delta_i|: the sum of the norms, or less where inner products are known:

  nothing omitted     0
  everything omitted  the output is the base's block itself, b. The full merge computes y in float32 with an
                      error of at most g = (K + 8) 2^-24 (|b| + D), D = S, and stores the value nearest to
                      it; as b is a value of that dtype, rounding adds at most min(D + g, u |y| + e sqrt(n)).
  some omitted        both outputs are computed and rounded: S + 2 (g + r), D being the sum over all, and r
                      the lesser of u |y| + e sqrt(n) and, where experts are of the output's dtype, sqrt(M^2 +
                      (D + g)^2), M^2 = sum over omitted i of |delta_i|^2. For the outputs differ only where
                      some omitted delta is not 0, and there it is at least half a grid step of b; rounding
                      moves y by half a step of b at most, or, past b's binade, by no more than |y - b|.

u is `Grid.roundoff`, e `Grid.underflow`, |y| <= |b| + D + g. An output dtype in which b has to be rounded, or
an operator that rescales the base, is treated as the last case (without M) throughout.
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
    (K, K, N) or None: bounds of <lambda_i delta_ib, lambda_j delta_jb>, where any are known better;
    `steps` (K, N): |delta_ib|^2 of experts of the output's dtype, inf of others, 0 where no candidate."""

    grid: Grid
    candidate: Flags
    known: Flags
    error: Floats
    base_scale: Floats
    steps: Floats
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
    def _terms(self) -> tuple[Floats, Floats, Floats]:
        """Per block: what an untouched one adds; twice the arithmetic's error; rounding by |y|."""
        tensor = self.grid.tensor_of_block
        norm = self.base_norm * self.base_scale * _BASE_SLACK + self.total
        arithmetic = (self.error.shape[0] + 8) * _STEP * norm
        rounding = self.grid.roundoff[tensor] * (norm + arithmetic)
        rounding += self.grid.underflow[tensor] * np.sqrt(self.grid.elements)
        together = self.omitted_norm(self.candidate)
        untouched = arithmetic + np.minimum(together + arithmetic, rounding)
        untouched = np.where(self.grid.keeps_base[tensor], untouched, 2.0 * (arithmetic + rounding))
        return untouched, arithmetic, rounding

    def omitted_steps(self, omitted: Flags) -> Floats:
        """M^2 per block (N,) for a set of omitted candidates (K, N)."""
        squares: Floats = np.where(omitted, self.steps, 0.0).sum(axis=0)
        return squares

    def block_errors(
        self,
        omitted: Floats,
        steps: Floats,
        touched: Flags,
        columns: npt.NDArray[np.int64] | slice = slice(None),
    ) -> Floats:
        """Bound of each block from its S, its M^2, and whether anything of it is read (of `columns` only)."""
        untouched, arithmetic, rounding = (term[columns] for term in self._terms)
        moved = np.sqrt(steps * _BASE_SLACK + np.square(self.total[columns] + arithmetic))
        partial = 2.0 * (arithmetic + np.minimum(rounding, moved))
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
        errors = self.block_errors(sums, self.omitted_steps(omitted), touched)
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
