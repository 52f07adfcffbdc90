"""DARE: drop a delta's elements at random and scale up the rest (arXiv:2311.03099).

Relies on task_vectors and draws. Promises: an element's draw depends on (seed, tensor, expert's manifest,
offset) alone. `rescale`: true multiplies what is kept by 1/ρ (the paper); l1 keeps Σ|δ| as mergekit does
since 2025, which needs the whole tensor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.kernels import random_numpy
from mpstore.kernels.merge_numpy import Terms
from mpstore.merge.operators import sums, task_vectors
from mpstore.merge.operators.draws import mask_key
from mpstore.merge.operators.protocol import Array, Block, ExpertContext, TensorContext


def _rescale(context: TensorContext) -> str:
    return str(context.params.get("rescale", "true"))


def unit(context: TensorContext) -> int:
    """Σ|δ| is over the whole tensor; 1/ρ needs nothing."""
    return context.elements if _rescale(context) == "l1" else 1


def scales(context: TensorContext) -> list[float]:
    """1/ρ per expert where that is how to rescale, else 1 (l1 looks at the block)."""
    if _rescale(context) == "true":
        return [1.0 / task_vectors.density(expert) for expert in context.experts]
    return [1.0] * len(context.experts)


def _l1_scale(delta: Array | None, context: TensorContext, expert: ExpertContext, start: int) -> float:
    """What restores Σ|δ| after one expert's mask."""
    if delta is None or task_vectors.density(expert) >= 1.0:
        return 1.0
    key, bound = mask_key(context, expert), random_numpy.below(task_vectors.density(expert))

    def kept(window: slice) -> npt.NDArray[np.bool_]:
        first, end, _ = window.indices(delta.size)
        return random_numpy.draws(key, start + first, end - first) < np.uint64(bound)

    return sums.l1_ratio(sums.magnitudes(delta), sums.magnitudes(delta, kept))


def _columns(context: TensorContext, factors: list[float], elect: bool) -> Terms:
    keeps = [(mask_key(context, e), random_numpy.below(task_vectors.density(e))) for e in context.experts]
    divide = task_vectors.flag(context, "normalize", False)
    return task_vectors.terms(context, elect=elect, normalize=divide, scales=factors, keeps=keeps)


def terms(context: TensorContext, elect: bool) -> Terms | None:
    """Drop, scale, and combine as columns; None where the scale depends on the tensor."""
    return None if _rescale(context) == "l1" else _columns(context, scales(context), elect)


def apply(block: Block, context: TensorContext, elect: bool) -> Array:
    """Drop, scale, and combine one block."""
    experts = context.experts
    factors = scales(context)
    if _rescale(context) == "l1":
        factors = [_l1_scale(d, context, e, block.start) for d, e in zip(block.deltas, experts, strict=True)]
    return task_vectors.combine(block, _columns(context, factors, elect))
