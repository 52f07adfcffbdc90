"""`sce`: select by variance, weigh by energy, erase the minority sign (arXiv:2408.07990).

Relies on numpy. Promises: whole-tensor, in chunks beside one float32 variance; of equal variances the one
of the lower offset is kept.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mpstore.merge.operators import sums, task_vectors
from mpstore.merge.operators.parameters import INT8_MASK
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)

_CHUNK = 1 << 16


def _variance(deltas: list[Array], experts: int) -> Array:
    """Population variance across experts, shape (n,); experts that are not in `deltas` count as zeros."""
    result = np.empty(deltas[0].size, np.float32)
    for at in range(0, result.size, _CHUNK):
        part = [d[at : at + _CHUNK].astype(np.float64) for d in deltas]
        mean = sum(part[1:], part[0]) / experts
        squares = [(p - mean) ** 2 for p in part]
        total = sum(squares[1:], squares[0]) + (experts - len(part)) * mean * mean
        result[at : at + _CHUNK] = total / experts
    return result


def _selected(variance: Array, share: float) -> npt.NDArray[np.bool_]:
    """The ⌊share · nonzero⌋ positions of largest variance."""
    kept = int(int(np.count_nonzero(variance)) * share)
    if kept == 0:
        return np.zeros(variance.size, np.bool_)
    threshold = np.partition(variance, variance.size - kept)[variance.size - kept]
    if np.isnan(threshold):
        return np.isnan(variance)
    chosen: npt.NDArray[np.bool_] = ~(variance <= threshold)  # NaN counts as largest
    equal = np.flatnonzero(variance == threshold)
    chosen[equal[: max(kept - int(np.count_nonzero(chosen)), 0)]] = True
    return chosen


def _energies(deltas: list[Array]) -> list[float]:
    """Mean δ² of each expert, exactly rounded; equal shares are the caller's business."""
    return [sums.squares(delta) / delta.size for delta in deltas]


def _shares(energies: list[float], experts: int) -> list[float]:
    total = math.fsum(energies)
    if total < 1e-6:
        return [1.0 / experts] * len(energies)
    return [energy / total for energy in energies]


def _fuse(base: Array, deltas: list[Array], shares: list[float], out: Array) -> None:
    """base + Σ δ w m / Σ w m over one chunk; the sign is elected on the plain sum of δ."""
    total = np.zeros(base.size, np.float32)
    for delta in deltas:
        total += delta
    merged, divisor = np.zeros_like(total), np.zeros_like(total)
    for delta, share in zip(deltas, shares, strict=True):
        agrees = np.where(total >= 0, delta > 0, delta < 0).astype(np.float32) * np.float32(share)
        merged += delta * agrees
        divisor += agrees
    merged /= np.maximum(divisor, np.float32(1e-6))
    np.add(base, merged, out=out)
    np.copyto(out, base, where=merged == 0)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    out = task_vectors.output(block)
    deltas = sums.by_length(block)
    if not deltas or block.base.size == 0:
        out[:] = block.base
        return out
    experts = len(context.experts)
    share = task_vectors.number(context, "select_topk", 1.0)
    with np.errstate(all="ignore"):
        if share < 1.0:
            chosen = _selected(_variance(deltas, experts), share)
            deltas = [np.where(chosen, delta, np.float32(0)) for delta in deltas]
        shares = _shares(_energies(deltas), experts)
        for at in range(0, block.base.size, _CHUNK):
            window = slice(at, at + _CHUNK)
            _fuse(block.base[window], [d[window] for d in deltas], shares, out[window])
    return out


def _scratch_bytes(elements: int, experts: int) -> int:
    return elements * (4 * experts + 9) + 8 * elements + 64 * _CHUNK


SCE = Operator(
    name="sce",
    summary="select by variance, weigh by energy, erase the minority sign",
    formula="keep the ⌊k·nnz⌋ positions of largest variance across δᵢ; wᵢ ∝ mean δᵢ² (equal below 1e-6); "
    "s = sign Σδᵢ (0 is +); mᵢ = [sign δᵢ = s]; b + Σwᵢδᵢmᵢ / max(Σwᵢmᵢ, 1e-6)",
    source="Wan et al., FuseChat (SCE), arXiv:2408.07990",
    parameters=(
        Parameter("select_topk", "global", "number", 1.0, "k: share of the positions kept", 0.0, 1.0),
        INT8_MASK,
    ),
    apply=_apply,
    whole=True,
    scratch_bytes=_scratch_bytes,
)
