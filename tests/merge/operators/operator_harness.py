"""Drives an operator as the executor does: facts first, then block after block. Knows no formula."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from mpstore.merge.execute.facts import GramSum
from mpstore.merge.operators.protocol import Block, ExpertContext, Facts, Operator, TensorContext
from mpstore.merge.operators.table import find

BLOCKS = (64, 128, 448, 1 << 20)


def key(label: object) -> bytes:
    """A stand-in for a manifest id."""
    return hashlib.sha256(repr(label).encode()).digest()


def make_context(
    op: Operator,
    shape: tuple[int, ...],
    experts: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any] | None = None,
    *,
    keys: Sequence[bytes] | None = None,
    name: str = "model.layers.0.w",
    seed: int = 7,
) -> TensorContext:
    """Parameters with the operator's defaults filled in, as `resolve` does it."""
    shared = {p.name: p.default for p in op.parameters if p.scope != "model"} | dict(params or {})
    own = {p.name: p.default for p in op.parameters if p.scope == "model"}
    keys = keys or [key(i) for i in range(len(experts))]
    return TensorContext(
        name=name,
        shape=shape,
        elements=math.prod(shape),
        seed=seed,
        params=shared,
        experts=tuple(ExpertContext(k, own | dict(e)) for k, e in zip(keys, experts, strict=True)),
    )


def delta_of(base: np.ndarray, expert: np.ndarray) -> np.ndarray:
    """x - b in float32, +0 where the bits are the same."""
    with np.errstate(all="ignore"):
        delta = expert - base
    delta[expert.view(np.uint32) == base.view(np.uint32)] = 0.0
    return delta


def thresholds_of(
    deltas: Sequence[np.ndarray], asked: Sequence[Sequence[int]]
) -> tuple[tuple[float, ...], ...]:
    """Order statistics of |delta| by bit pattern."""
    found = []
    for delta, ranks in zip(deltas, asked, strict=True):
        patterns = np.sort(np.abs(delta).view(np.uint32)).view(np.float32)
        found.append(tuple(float(patterns[rank - 1]) for rank in ranks))
    return tuple(found)


def _gram_of(base: np.ndarray, deltas: Sequence[np.ndarray], block: int) -> np.ndarray:
    starts = range(0, base.size, block)
    total = GramSum(len(deltas) + 1, starts)
    for at in starts:
        window = slice(at, at + block)
        total.observe(at, [base[window], *(d[window] if d[window].any() else None for d in deltas)])
    return total.conclude()


def drive(
    op: Operator | str,
    base: np.ndarray,
    experts: Sequence[np.ndarray],
    expert_params: Sequence[Mapping[str, Any]] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    block: int = 64,
    give_out: bool = True,
    **names: Any,
) -> np.ndarray:
    """The merged tensor in float32, computed in blocks of `block` elements (runs of whole units)."""
    op = find(op) if isinstance(op, str) else op
    expert_params = [{} for _ in experts] if expert_params is None else expert_params
    context = make_context(op, base.shape, expert_params, params, **names)
    flat = np.ascontiguousarray(base, np.float32).reshape(-1)
    deltas = [delta_of(flat, np.ascontiguousarray(x, np.float32).reshape(-1)) for x in experts]
    facts = Facts(
        thresholds=thresholds_of(deltas, op.ranks(context)) if flat.size else (),
        gram=_gram_of(flat, deltas, block) if op.needs_gram(context) else None,
    )
    run = min(math.lcm(block, op.unit_elements(context)), max(flat.size, 1))
    result = np.empty_like(flat)
    for at in range(0, max(flat.size, 1), run):
        window = slice(at, at + run)
        part = tuple(d[window].copy() if d[window].any() else None for d in deltas)
        out = np.full(flat[window].size, np.nan, np.float32) if give_out else None
        base_part = flat[window].copy()
        merged = op.apply(Block(at, base_part, part, out), facts, context)
        assert merged.dtype == np.float32
        assert merged.shape == base_part.shape
        assert out is None or merged is out
        assert base_part.tobytes() == flat[window].tobytes()  # inputs are only read
        if op.keeps_base(context) and not any(p is not None for p in part):
            assert merged.tobytes() == base_part.tobytes()
        result[window] = merged
    return result.reshape(base.shape)


def family(
    shape: tuple[int, ...], experts: int, seed: int = 0, dtype: str = "float32", spread: float = 0.05
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A base and its fine-tunes, rounded to `dtype` and widened to float32."""
    rng = np.random.default_rng([seed, experts, *shape])
    kind = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, np.dtype(dtype))
    base = rng.standard_normal(shape)
    tuned = [base + spread * rng.standard_normal(shape) * (rng.random(shape) < 0.8) for _ in range(experts)]
    return base.astype(kind).astype(np.float32), [x.astype(kind).astype(np.float32) for x in tuned]


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()
