"""`model_stock`: how far to go from base to the mean, from the angle between the experts (arXiv:2403.19522).

Relies on the fact gram, or with `filter_wise` on rows being kept together. Promises: mergekit's guards.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from mpstore.kernels import merge_numpy
from mpstore.merge.operators import gram, task_vectors
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)


def _unit(context: TensorContext) -> int:
    if not task_vectors.flag(context, "filter_wise", False):
        return 1
    return context.shape[-1] if context.shape else 1


def _ratio(cosines: list[npt.NDArray[np.float64]], experts: int) -> npt.NDArray[np.float64]:
    """t = N c / (1 + (N - 1) c) of the mean cosine c; 0 where the divisor vanishes."""
    mean = sum(np.sort(np.stack(cosines), axis=0)) / len(cosines)  # sorted, so that no order shows
    divisor = 1.0 + (experts - 1) * mean
    singular = np.abs(divisor) < 1e-6
    return np.asarray(np.where(singular, 0.0, experts * mean / np.where(singular, 1.0, divisor)))


def _cosine(
    product: npt.NDArray[np.float64], left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """From an inner product and two squared norms; a product of norms below 1e-6 counts as 1e-6."""
    norms = np.sqrt(left) * np.sqrt(right)
    return np.asarray(np.clip(product / np.maximum(norms, 1e-6), -1.0, 1.0))


def _flattened(block: Block, facts: Facts, context: TensorContext) -> Array:
    vectors = gram.frame(facts, context, weights=False)
    products, experts = vectors.products, len(context.experts)
    pairs = itertools.combinations(range(experts), 2)
    cosines = [_cosine(products[i, j], products[i, i], products[j, j]) for i, j in pairs]
    t = float(_ratio(cosines, experts))
    return gram.combine(block, context, vectors, np.full(experts, t / experts))


def _by_rows(block: Block, context: TensorContext) -> Array:
    length = max(context.shape[-1] if context.shape else 1, 1)
    shape = (-1, length)
    zero = np.zeros(block.base.size, np.float32)
    found = [zero if delta is None else delta for delta in block.deltas]
    wide = [gram.finite(delta.reshape(shape)).astype(np.float64) for delta in found]
    squares = [(d * d).sum(axis=1) for d in wide]
    pairs = itertools.combinations(range(len(wide)), 2)
    cosines = [_cosine((wide[i] * wide[j]).sum(axis=1), squares[i], squares[j]) for i, j in pairs]
    t = _ratio(cosines, len(wide))[:, None]
    mean = merge_numpy.sums(found, block.base.size, merge_numpy.spare_bits(len(wide)))[0] / len(wide)
    out = task_vectors.output(block)
    out[:] = (block.base.reshape(shape) + t * mean.reshape(shape)).reshape(-1)
    return out


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    if task_vectors.flag(context, "filter_wise", False):
        return _by_rows(block, context)
    return _flattened(block, facts, context)


def _scratch_bytes(elements: int, experts: int) -> int:
    return 8 * elements * (experts + 4)


MODEL_STOCK = Operator(
    name="model_stock",
    summary="the mean of the experts, drawn back to the base by the angle between them",
    formula="c = mean pairwise cosine of δ; t = Nc/(1 + (N − 1)c); t·mean(xᵢ) + (1 − t)b",
    source="Jang et al., Model Stock, arXiv:2403.19522",
    parameters=(Parameter("filter_wise", "global", "flag", False, "one angle a row, not a tensor"),),
    apply=_apply,
    gram=True,
    unit=_unit,
    scratch_bytes=_scratch_bytes,
    models=(2, None),
)
