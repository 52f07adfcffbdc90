"""Planner's inputs made from real arrays, and slow, plain oracles for what the planner says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from mpstore import statistics
from mpstore.merge.operators.protocol import Block, ExpertContext, Facts, Operator, TensorContext
from mpstore.merge.plan_inputs import ExpertColumns, Grid, PlanInputs, Sketches
from mpstore.records.model import Plan

BLOCK = 64
DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
}


def key(label: object) -> bytes:
    return hashlib.sha256(repr(label).encode()).digest()


@dataclass(frozen=True)
class Made:
    """Arrays of a base and its experts by tensor, float32 values of `dtype`, and the inputs they make."""

    dtype: str
    base: dict[str, np.ndarray]
    experts: tuple[dict[str, np.ndarray], ...]
    contexts: dict[str, TensorContext]
    operator: Operator
    inputs: PlanInputs


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 values after a trip through the dtype."""
    return values.astype(np.float32).astype(DTYPES[dtype]).astype(np.float32)


def random_family(
    rng: np.random.Generator, experts: int, dtype: str, scale: float, sizes: Sequence[int] = (200, 64, 1, 130)
) -> tuple[dict[str, np.ndarray], tuple[dict[str, np.ndarray], ...]]:
    """A base and experts whose deltas overlap in part; some blocks stay equal."""
    base = {f"t.{i}.w": rounded(rng.standard_normal(n) * 0.3, dtype) for i, n in enumerate(sizes)}
    common = {name: rng.standard_normal(array.size) for name, array in base.items()}
    made = []
    for _ in range(experts):
        mix, size = rng.uniform(0, 1), scale * rng.uniform(0.2, 2)
        one = {}
        for name, array in base.items():
            step = mix * common[name] + (1 - mix) * rng.standard_normal(array.size)
            for at in range(0, array.size, BLOCK):
                if rng.random() < 0.2:
                    step[at : at + BLOCK] = 0
            one[name] = rounded(array + size * step, dtype)
        made.append(one)
    return base, tuple(made)


def make(
    op: Operator,
    base: dict[str, np.ndarray],
    experts: Sequence[dict[str, np.ndarray]],
    params: Sequence[dict[str, Any]],
    shared: dict[str, Any] | None = None,
    dtype: str = "F32",
    seed: int = 0,
    costs: np.random.Generator | None = None,
    foreign: bool = False,
    whole: Sequence[int] = (),
    unmeasured: Sequence[int] = (),
    pairs: Sequence[tuple[int, int]] = (),
) -> Made:
    """Inputs as `gather` would make them; frame costs drawn from `costs`; experts in `whole` are chosen by
    whole tensors, those in `unmeasured` have no statistics; of `pairs` the inner products are known."""
    costs = costs or np.random.default_rng(0)
    keys = tuple(sorted(base))
    counts = [-(-base[k].size // BLOCK) for k in keys]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(offsets[-1])
    spans = [(k, at) for k in keys for at in range(0, base[k].size, BLOCK)]
    defaults = {p.name: p.default for p in op.parameters if p.scope != "model"} | (shared or {})
    own = {p.name: p.default for p in op.parameters if p.scope == "model"}
    contexts = {
        k: TensorContext(
            k, base[k].shape, base[k].size, seed, defaults,
            tuple(ExpertContext(key(i), own | dict(p)) for i, p in enumerate(params)),
        )
        for k in keys
    }  # fmt: skip
    info = ml_dtypes.finfo(DTYPES[dtype])
    rows = [
        [statistics.observe(base[k][at : at + BLOCK], e[k][at : at + BLOCK]) for k, at in spans]
        for e in experts
    ]
    grid = Grid(
        keys=keys,
        offsets=offsets,
        elements=np.array([min(BLOCK, base[k].size - at) for k, at in spans], np.int64),
        base_frame_bytes=np.full(n, 100, np.int64),
        base_sq=np.array([row.seen.base_sq for row in rows[0]]) if rows else np.full(n, np.nan),
        roundoff=np.full(len(keys), float(info.eps) / 2),
        underflow=np.full(len(keys), float(info.smallest_subnormal) / 2),
        keeps_base=np.array([op.keeps_base(contexts[k]) for k in keys], bool),
    )
    columns = []
    bases = costs.integers(1, 60, n)
    for i in range(len(experts)):
        candidate = np.array([not row.equal for row in rows[i]])
        leans = candidate & (costs.random(n) < 0.6) & foreign
        factors = [
            op.coefficients(contexts[k])[i] if op.coefficients else abs(contexts[k].experts[i].weight)
            for k in keys
        ]
        measured = i not in unmeasured
        columns.append(
            ExpertColumns(
                model=f"e{i}",
                commit=key(("commit", i)),
                manifest=key(i),
                kind="full",
                params=own | dict(params[i]),
                raw_bytes=int(sum(a.size for a in base.values()) * info.dtype.itemsize),
                candidate=candidate,
                frame_bytes=np.where(candidate, costs.integers(20, 200, n), 0),
                foreign=np.where(leans, costs.integers(0, 2, n), -1),
                foreign_bytes=np.where(leans, bases, 0),
                delta_sq=np.array([row.seen.delta_sq if measured else np.nan for row in rows[i]]),
                coefficient=np.array(factors),
                sign=np.array([np.sign(contexts[k].experts[i].weight) or 1.0 for k in keys]),
                whole=np.full(len(keys), i in whole or not measured),
                ranked=np.array([bool(op.ranks(contexts[k])[i]) for k in keys]),
                fallbacks={} if measured else {"*": "no statistics"},
                sketches=_sketches(rows[i]) if measured else None,
            )
        )  # fmt: skip
    inputs = PlanInputs(
        operator=op.name,
        additive=all(op.is_additive(contexts[k]) for k in keys),
        base_model="base",
        base_commit=key("base commit"),
        base_manifest=key("base"),
        grid=grid,
        experts=tuple(columns),
        base_scale=np.ones(len(keys)),
        gram=np.array([op.needs_gram(contexts[k]) for k in keys], bool),
        scratch_bytes=np.zeros(len(keys), np.int64),
        params=defaults,
        seed=seed,
        overlaps={
            (i, j): np.array([_dot(experts[i][k] - base[k], experts[j][k] - base[k], at) for k, at in spans])
            for i, j in pairs
        },
    )
    return Made(dtype, base, tuple(experts), contexts, op, inputs)


def _dot(one: np.ndarray, other: np.ndarray, at: int) -> float:
    return float(one[at : at + BLOCK].astype(np.float64) @ other[at : at + BLOCK].astype(np.float64))


def _sketches(rows: Sequence[statistics.Row]) -> Sketches:
    return Sketches(
        np.stack([r.seen.sketch for r in rows]), np.array([r.seen.sketch_scale for r in rows], np.float32)
    )


def chosen(plan: Plan, expert: int, name: str, blocks: int) -> np.ndarray:
    """Flags of the blocks of one tensor that the plan reads of one expert."""
    bits = plan.experts[expert].selection.get(name)
    if bits is None:
        return np.zeros(blocks, bool)
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=blocks).astype(bool)


def selected(made: Made, plan: Plan) -> np.ndarray:
    """(K, N) flags of what the plan reads, experts in the recipe's order."""
    grid = made.inputs.grid
    rows = [
        np.concatenate(
            [chosen(plan, i, k, int(grid.offsets[t + 1] - grid.offsets[t])) for t, k in enumerate(grid.keys)]
        )
        for i in range(len(made.experts))
    ]
    return np.array(rows).reshape(len(made.experts), grid.blocks)


def cost_of(made: Made, flags: np.ndarray) -> int:
    """Every selected frame once, every foreign base once for each block that needs it."""
    total = 0
    for n in range(flags.shape[1]):
        paid = {}
        for i, expert in enumerate(made.inputs.experts):
            if flags[i, n]:
                total += int(expert.frame_bytes[n])
                if expert.foreign[n] >= 0:
                    paid[int(expert.foreign[n])] = int(expert.foreign_bytes[n])
        total += sum(paid.values())
    return total


def merge(made: Made, flags: np.ndarray) -> dict[str, np.ndarray]:
    """The output as stored, float32 values: the operator applied block by block to what `flags` select."""
    out, n = {}, 0
    for name in made.inputs.grid.keys:
        base, context = made.base[name], made.contexts[name]
        result = np.empty_like(base)
        for at in range(0, base.size, BLOCK):
            part = base[at : at + BLOCK]
            deltas = []
            for i, expert in enumerate(made.experts):
                delta = expert[name][at : at + BLOCK] - part
                deltas.append(delta if flags[i, n] and delta.any() else None)
            merged = made.operator.apply(Block(at, part, tuple(deltas)), Facts(), context)
            result[at : at + BLOCK] = rounded(merged, made.dtype)
            n += 1
        out[name] = result
    return out


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The l2 norm of the difference."""
    squares = [np.square(one[k].astype(np.float64) - other[k].astype(np.float64)).sum() for k in one]
    return float(np.sqrt(sum(squares)))
