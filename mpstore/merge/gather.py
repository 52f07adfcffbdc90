"""Reads what a plan is made from: records, statistics and index columns, never a block.

Relies on repository, statistics, resolve and plan_inputs. Promises: the only I/O of planning; checkpoints
that do not fit each other are refused here, by name, before a byte of a tensor is read; what is merely odd
(missing tensors, mixed dtypes, NaN) becomes a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from mpstore import dtypes
from mpstore.errors import IncompatibleError, NotFoundError
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.merge import resolve
from mpstore.merge.elsewhere import all_tensors
from mpstore.merge.execute.contexts import content_key
from mpstore.merge.gather_base import BaseModel, base_model
from mpstore.merge.gather_expert import Expert, Named, read_experts
from mpstore.merge.gather_pairs import overlaps
from mpstore.merge.gather_terms import coefficients, with_terms, without_weightless
from mpstore.merge.operators.protocol import Operator, TensorContext
from mpstore.merge.plan_inputs import ExpertColumns, Grid, PlanInputs
from mpstore.merge.recipe import Recipe
from mpstore.records.model import TensorRecord
from mpstore.records.unfetched import ANY_BRANCH
from mpstore.repository import Repo


@dataclass(frozen=True)
class Source:
    """A model of a merge: what the user called it, and its commit.

    `network_bytes`: of a model whose weights are still elsewhere, what fetching each tensor would transfer;
    an expert's tensors are then read whole or not at all. `whole` False: what a base or a stacked layer needs
    is not all here yet; it can be planned with, and has to be fetched before a merge.
    """

    name: str
    commit: ObjectId
    network_bytes: Mapping[str, int] | None = None
    whole: bool = True


def gather(
    repo: Repo, recipe: Recipe, base: Source, experts: Sequence[Source], *, seed: int = 0
) -> PlanInputs:
    """The planner's inputs for a recipe whose models are `base` and `experts` (in the recipe's order).

    Raises IncompatibleError (exit 8) where an expert does not fit the base, RecipeError where the recipe does
    not fit the checkpoints, NotFoundError and DamagedError where content is not there.
    """
    if recipe.stacked:
        from mpstore.merge.gather_stack import gather_stack

        models = [(one.name, one.commit, one.whole) for one in (base, *experts)]
        return gather_stack(repo, recipe, models, seed)
    commit = repo.commit(base.commit)
    manifest = repo.manifest(commit.manifest)
    records = all_tensors(repo, manifest)
    _check_base(base, commit.kind, manifest.partial)
    shapes = {key: record.shape for key, record in records.items()}
    resolved = resolve.resolve(recipe, shapes)
    contexts = resolve.contexts(resolved, seed, _content_keys(repo, experts), shapes)
    op = recipe.method
    model = base_model(repo, commit.manifest, records)
    ordered = [contexts[key] for key in model.grid.keys]
    found = read_experts(repo, model, [Named(s.name, s.commit, s.network_bytes or {}) for s in experts])
    columns = with_terms(_with_foreign(found), op, ordered, resolved.experts)
    columns = without_weightless(columns, op, ordered, found, model.grid.offsets)
    known, lacking = overlaps(repo, model, found) if _is_linear(op, ordered) else ({}, ())
    return PlanInputs(
        operator=recipe.operator,
        additive=all(op.is_additive(context) for context in ordered),
        base_model=base.name,
        base_commit=base.commit,
        base_manifest=commit.manifest,
        grid=_finished(model, recipe, ordered, found),
        experts=tuple(columns),
        base_scale=np.array([_base_scale(op, context) for context in ordered], np.float64),
        gram=np.array([op.needs_gram(context) for context in ordered], np.bool_),
        scratch_bytes=np.array([_scratch(op, one, records[one.name]) for one in ordered], np.int64),
        params=dict(resolved.params),
        tensor_params=resolved.tensors,
        outputs=resolved.outputs,
        out_dtype=recipe.out_dtype or "",
        seed=seed,
        recipe=recipe.text,
        overlaps=known,
        uncompared=lacking,
        notes=recipe.notes + resolved.notes + tuple(note for one in found for note in one.notes),
    )


def _content_keys(repo: Repo, experts: Sequence[Source]) -> list[bytes]:
    """What random masks hang on, one an expert."""
    manifests = [repo.commit(one.commit).manifest for one in experts]
    return [content_key(repo.manifest(one), one) for one in manifests]


def _check_base(base: Source, kind: str, partial: bool) -> None:
    if kind != "full":
        raise IncompatibleError(
            f"{base.name} is a {kind} checkpoint, and the base of a merge has full weights",
            hint="name the model it was made from as the base",
        )
    if partial and base.whole:
        raise NotFoundError(
            f"{base.name} is only partly in the store, and the base of a merge is read whole",
            hint=ANY_BRANCH,
        )


def _with_foreign(experts: Sequence[Expert]) -> list[ExpertColumns]:
    """The columns with foreign delta bases numbered, the same number for the same block in every expert."""
    ids = np.concatenate([one.foreign_ids for one in experts] or [np.zeros((0, ID_BYTES), np.uint8)])
    if not len(ids):
        return [one.columns for one in experts]
    rows = np.ascontiguousarray(ids).view(np.dtype((np.void, ID_BYTES)))[:, 0]
    numbers = np.unique(rows, return_inverse=True)[1].astype(np.int64)
    columns, begin = [], 0
    for one in experts:
        foreign = one.columns.foreign.copy()
        foreign[one.foreign_rows] = numbers[begin : begin + len(one.foreign_rows)]
        begin += len(one.foreign_rows)
        columns.append(replace(one.columns, foreign=foreign))
    return columns


def _is_linear(op: Operator, contexts: Sequence[TensorContext]) -> bool:
    """Whether the output is base + sum of lambda_i delta_i, element for element: no masks, no clamps."""
    return not op.random and all(op.is_additive(context) for context in contexts)


def _base_scale(op: Operator, context: TensorContext) -> float:
    """The most by which the base can be multiplied: 1, or a sum of weights where the operator rescales it."""
    if op.keeps_base(context):
        return 1.0
    own = abs(float(context.params.get("base_weight", 0.0)))
    return 1.0 + own + sum(coefficients(op, context))


def _scratch(op: Operator, context: TensorContext, record: TensorRecord) -> int:
    """Memory of one application: base, deltas, output and scratch of a run of blocks, all float32."""
    unit = op.unit_elements(context)
    joined = (
        record.block_elements
        if record.block_elements % unit == 0
        else int(np.lcm(unit, record.block_elements, dtype=object))
    )
    run = min(joined, context.elements)
    own = op.scratch_bytes(run, len(context.experts)) if op.scratch_bytes else 0
    return 4 * run * (len(context.experts) + 2) + own


def _finished(
    model: BaseModel, recipe: Recipe, contexts: Sequence[TensorContext], experts: Sequence[Expert]
) -> Grid:
    """The grid with what depends on the merge: the base's norms as any pair's statistics know them, the
    output's dtype, and where nothing read means nothing changed."""
    base_sq = model.grid.base_sq
    for expert in experts:
        base_sq = np.fmax(base_sq, expert.base_sq)
    out = [recipe.out_dtype or dtype for dtype in model.dtypes]
    steps = [_rounding(name) for name in out]
    return replace(
        model.grid,
        base_sq=base_sq,
        roundoff=np.array([step[0] for step in steps], np.float64),
        underflow=np.array([step[1] for step in steps], np.float64),
        keeps_base=np.array(
            [
                own == dtype and recipe.method.keeps_base(context)
                for own, dtype, context in zip(out, model.dtypes, contexts, strict=True)
            ],
            np.bool_,
        ),
    )


def _rounding(name: str) -> tuple[float, float]:
    """Half the spacing at 1, half the smallest subnormal, of a float dtype; float32 arithmetic fits F64."""
    dtype = dtypes.of(name)
    if dtype is None or not dtype.is_float or dtype.numpy is None:
        raise IncompatibleError(f"a merge cannot write dtype {name!r}")
    if name == "F64":
        return 0.0, 0.0
    info = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
    return float(info.eps) / 2, float(info.smallest_subnormal) / 2
