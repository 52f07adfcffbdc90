"""The family b + λ · combine(w₁δ̂₁ … w_Kδ̂_K): from parameters to the columns the kernel works on.

Relies on kernels. Promises: the order of the experts does not show (the kernel's sums are exact); the result
is the base, bit for bit, wherever the merged delta is zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpstore import kernels
from mpstore.kernels.merge_numpy import Terms, spare_bits
from mpstore.merge.operators.protocol import Array, Block, ExpertContext, Facts, TensorContext

Window = tuple[float, float]
KEEP_ALL: Window = (0.0, math.inf)
DROP_ALL: Window = (math.inf, -math.inf)


def rank(expert: ExpertContext) -> tuple[bytes, str]:
    """What experts are ordered by where some order is needed: their key, then their parameters."""
    return expert.key, json.dumps(dict(expert.params), sort_keys=True)


def in_key_order(experts: Sequence[ExpertContext]) -> list[int]:
    """Positions of the experts in an order that is not the recipe's."""
    return sorted(range(len(experts)), key=lambda i: rank(experts[i]))


def flag(context: TensorContext, name: str, default: bool) -> bool:
    """A global yes-or-no parameter."""
    return bool(context.params.get(name, default))


def number(context: TensorContext, name: str, default: float) -> float:
    """A global number."""
    return float(context.params.get(name, default))


def weights_sum(context: TensorContext) -> float:
    """The sum of the weights, exactly rounded (so that no order shows)."""
    return math.fsum(expert.weight for expert in context.experts)


def density(expert: ExpertContext) -> float:
    """ρ of an expert."""
    return float(expert.params.get("density", 1.0))


def output(block: Block) -> Array:
    """The array `apply` fills: the caller's, or a fresh one."""
    return np.empty(block.base.size, np.float32) if block.out is None else block.out


def terms(
    context: TensorContext,
    *,
    elect: bool,
    normalize: bool,
    weights: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
    windows: Sequence[Window] | None = None,
    keeps: Sequence[tuple[int, int]] | None = None,
    factor: float | None = None,
    base_scale: float = 1.0,
) -> Terms:
    """The columns of b · base_scale + λ · combine, one row an expert.

    Per expert: `weights` (default: the parameter), `scales` after selection (default 1), `windows` of |δ|
    that is kept, `keeps` = (key, bound) of the random draw. `factor` defaults to the parameter `lambda`.
    """
    count = len(context.experts)
    if weights is None:
        weights = [expert.weight for expert in context.experts]
    divisor = weights_sum(context) if normalize and not elect else 1.0
    bounds = [KEEP_ALL] * count if windows is None else windows
    draws = [(0, 0)] * count if keeps is None else keeps
    return Terms(
        weight=np.array(weights, np.float32),
        scale=np.array([1.0] * count if scales is None else scales, np.float32),
        low=np.array([low for low, _ in bounds], np.float32),
        high=np.array([high for _, high in bounds], np.float32),
        key=np.array([key for key, _ in draws], np.uint64),
        keep=np.array([keep for _, keep in draws], np.uint64),
        random=keeps is not None,
        elect=elect,
        normalize=normalize,
        divisor=np.float32(divisor if abs(divisor) >= 1e-8 else 1.0),
        factor=np.float32(number(context, "lambda", 1.0) if factor is None else factor),
        base_scale=np.float32(base_scale),
        spare=spare_bits(count),
    )


def chosen(columns: Terms, order: Sequence[int]) -> Terms:
    """The rows of some experts."""
    if len(order) == columns.weight.size:
        return columns
    names = ("weight", "scale", "low", "high", "key", "keep")
    return replace(columns, **{name: getattr(columns, name)[list(order)] for name in names})


def combine(block: Block, columns: Terms) -> Array:
    """b · base_scale + λ · combine, for one block; `columns` as `terms` gives them."""
    order = [i for i, delta in enumerate(block.deltas) if delta is not None]
    deltas = [delta for delta in block.deltas if delta is not None]
    out = output(block)
    kernel = kernels.pick("merge")
    kernel.combine(block.base, deltas, chosen(columns, order), block.start, out)
    return out


def merge(block: Block, context: TensorContext, **choices: Any) -> Array:
    """`combine` with the columns that `terms(context, **choices)` gives."""
    return combine(block, terms(context, **choices))


def by_terms(
    find: Callable[[Facts, TensorContext], Terms],
) -> Callable[[Block, Facts, TensorContext], Array]:
    """The `apply` of an operator that is nothing but its columns."""

    def apply(block: Block, facts: Facts, context: TensorContext) -> Array:
        return combine(block, find(facts, context))

    return apply


def windows_from(facts: Facts, context: TensorContext, asked: Sequence[tuple[int, ...]]) -> list[Window]:
    """The window of |δ| each expert keeps: from its first threshold up to its second, if it asked for one."""
    del context
    found = []
    for ranks, values in zip(asked, facts.thresholds or ((),) * len(asked), strict=True):
        if not ranks:
            found.append(KEEP_ALL)
        else:
            found.append((values[0], values[1] if len(ranks) > 1 else math.inf))
    return found


def merged_coefficients(context: TensorContext, scales: Sequence[float] | None = None) -> tuple[float, ...]:
    """|λ wᵢ scaleᵢ|, over |Σw| where the operator normalizes without consensus."""
    factor = abs(number(context, "lambda", 1.0))
    if flag(context, "normalize", False):
        total = weights_sum(context)
        factor /= abs(total) if abs(total) >= 1e-8 else 1.0
    scales = scales or [1.0] * len(context.experts)
    return tuple(factor * abs(e.weight * s) for e, s in zip(context.experts, scales, strict=True))
