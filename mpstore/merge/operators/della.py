"""`della` and `della_linear`: drop at random, small deltas of a row more often (arXiv:2406.11617).

Relies on task_vectors, draws. Promises: ranks are within a row (last dimension), equal |δ| in element order;
a draw depends on (seed, tensor, expert's manifest, offset) alone. Rows are kept together, not tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mpstore.errors import UsageError
from mpstore.kernels import random_numpy
from mpstore.merge.operators import sums, task_vectors
from mpstore.merge.operators.draws import mask_key
from mpstore.merge.operators.parameters import (
    DENSITY,
    EPSILON,
    INT8_MASK,
    LAMBDA,
    WEIGHT,
    normalize,
    rescale,
)
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    ExpertContext,
    Facts,
    Operator,
    TensorContext,
    Value,
)

_BATCH_ELEMENTS = 1 << 18


def row_elements(context: TensorContext) -> int:
    """Length of a row: the last dimension; a vector is one row, a scalar a row of one."""
    return context.shape[-1] if context.shape else 1


def _rescale(context: TensorContext) -> str:
    return str(context.params.get("rescale", "true"))


def _unit(context: TensorContext) -> int:
    return context.elements if _rescale(context) == "l1" else row_elements(context)


def _scratch_bytes(elements: int, experts: int) -> int:
    return 4 * elements * experts + 48 * max(_BATCH_ELEMENTS, elements)


def _probabilities(expert: ExpertContext, row: int) -> npt.NDArray[np.float64]:
    """Keep probability by rank, shape (row,): from ρ − ε to ρ + ε; ρ in a row of one."""
    density = task_vectors.density(expert)
    epsilon = float(expert.params.get("epsilon", 0.15))
    if row == 1:
        return np.full(1, density)
    return (density - epsilon) + 2 * epsilon * np.arange(row) / (row - 1)


def _pruned_rows(rows: Array, start: int, expert: ExpertContext, key: int, scaled: bool) -> Array:
    """A batch of rows, shape (m, row): what is not drawn set to 0, what is kept divided by p if `scaled`."""
    by_rank = _probabilities(expert, rows.shape[1])
    bounds = np.array([random_numpy.below(p) for p in by_rank], np.uint64)
    patterns = np.ascontiguousarray(rows).view(np.uint32) & np.uint32(0x7FFFFFFF)
    # Unique keys (pattern, position) make any sort a stable one; the low half is then the order.
    order = (patterns.astype(np.uint64) << np.uint64(32)) | np.arange(rows.shape[1], dtype=np.uint64)
    order.sort(axis=1)
    position = (order & np.uint64(0xFFFFFFFF)).astype(np.int64)
    bound = np.empty(rows.shape, np.uint64)
    np.put_along_axis(bound, position, bounds[None, :], axis=1)
    dropped = random_numpy.draws(key, start, rows.size).reshape(rows.shape) >= bound
    pruned = np.where(dropped, np.float32(0), rows)
    if scaled:
        chance = np.empty(rows.shape, np.float32)
        np.put_along_axis(chance, position, by_rank.astype(np.float32)[None, :], axis=1)
        pruned /= chance
    return pruned


def _pruned(delta: Array | None, block: Block, context: TensorContext, expert: ExpertContext) -> Array | None:
    """One expert's δ̂, batch of rows after batch of rows."""
    if delta is None or delta.size == 0 or task_vectors.density(expert) >= 1.0:
        return delta
    row = row_elements(context)
    key = mask_key(context, expert)
    result = np.empty(delta.size, np.float32)
    step = max(1, _BATCH_ELEMENTS // row) * row
    for at in range(0, delta.size, step):
        rows = delta[at : at + step].reshape(-1, row)
        part = _pruned_rows(rows, block.start + at, expert, key, _rescale(context) == "true")
        result[at : at + step] = part.reshape(-1)
    return result


def _restoring(delta: Array, pruned: Array) -> float:
    """What restores Σ|δ|."""
    return sums.l1_ratio(sums.magnitudes(delta), sums.magnitudes(pruned))


def _merge(block: Block, context: TensorContext, elect: bool, divide: bool) -> Array:
    pairs = list(zip(block.deltas, context.experts, strict=True))
    pruned = tuple(_pruned(delta, block, context, expert) for delta, expert in pairs)
    scales = None
    if _rescale(context) == "l1":
        both = zip(block.deltas, pruned, strict=True)
        scales = [1.0 if d is None or p is None else _restoring(d, p) for d, p in both]
    return task_vectors.merge(
        replace(block, deltas=pruned), context, elect=elect, normalize=divide, scales=scales
    )


def _plain(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    return _merge(block, context, elect=False, divide=task_vectors.flag(context, "normalize", False))


def _elected(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    return _merge(block, context, elect=True, divide=task_vectors.flag(context, "normalize", True))


def _check(params: Mapping[str, Value], experts: tuple[Mapping[str, Value], ...]) -> None:
    del params
    for expert in experts:
        density, epsilon = float(expert.get("density", 1.0)), float(expert.get("epsilon", 0.15))
        if density < 1.0 and not (density - epsilon > 0.0 and density + epsilon < 1.0):
            raise UsageError(
                f"density ± epsilon must lie in (0, 1); {density:g} ± {epsilon:g} does not",
                hint=f"an epsilon below {min(density, 1 - density):g} fits this density",
            )


_RESCALE = rescale("true", "true: divided by p (the paper); l1: times Σ|δ|/Σ|kept δ| (mergekit); false: not")
_SOURCE = "Deep et al., DELLA-Merging, arXiv:2406.11617"
_FORMULA = (
    "r = ascending rank of |δ| in its row of N; p = (ρ − ε) + 2ε(r − 1)/(N − 1); δ̂ = δ·[drawn with p]/p; "
)

DELLA_LINEAR = Operator(
    name="della_linear",
    summary="drop at random, small ones more often; add the rest",
    formula=_FORMULA + "b + λΣwᵢδ̂ᵢ",
    source=_SOURCE,
    parameters=(WEIGHT, DENSITY, EPSILON, LAMBDA, normalize(False), _RESCALE, INT8_MASK),
    apply=_plain,
    unit=_unit,
    random=True,
    scratch_bytes=_scratch_bytes,
    check=_check,
)

DELLA = Operator(
    name="della",
    summary="drop at random, small ones more often; elect a sign, average those that agree",
    formula=_FORMULA + "yᵢ = wᵢδ̂ᵢ; s = sign Σyᵢ (0 is +); mᵢ = [sign yᵢ = s]; b + λΣyᵢmᵢ / Σwᵢmᵢ",
    source=_SOURCE,
    parameters=(WEIGHT, DENSITY, EPSILON, LAMBDA, normalize(True), _RESCALE, INT8_MASK),
    apply=_elected,
    unit=_unit,
    random=True,
    scratch_bytes=_scratch_bytes,
    check=_check,
)
