"""What a stack of layers reads: the tensors that are not taken over as they stand.

Relies on repository, resolve and gather_base. Promises: records and index columns are read, no block; nothing
of a stack may be omitted, since there is no base that a layer's place could fall back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpstore.errors import NotFoundError
from mpstore.ids import ObjectId
from mpstore.merge import resolve
from mpstore.merge.elsewhere import all_tensors
from mpstore.merge.execute.contexts import content_key
from mpstore.merge.gather_base import block_elements, is_merged, read_costs, weight_bytes
from mpstore.merge.operators.protocol import TensorContext
from mpstore.merge.plan_inputs import ExpertColumns, Grid, Integers, PlanInputs
from mpstore.merge.recipe import Recipe
from mpstore.records.model import Commit, Manifest, TensorRecord
from mpstore.records.unfetched import how_to_fetch
from mpstore.repository import Repo


@dataclass(frozen=True)
class _Model:
    """One model of a stack."""

    name: str
    commit_id: ObjectId
    commit: Commit
    manifest: Manifest
    tensors: Mapping[str, TensorRecord]


@dataclass(frozen=True)
class _Place:
    """One float tensor of the output: which model it comes from, its record there, and whether it is read."""

    key: str
    model: int
    record: TensorRecord
    read: bool


def gather_stack(
    repo: Repo, recipe: Recipe, models: Sequence[tuple[str, ObjectId, bool]], seed: int
) -> PlanInputs:
    """The planner's inputs for a stacked recipe. `models`: of [base, *experts] name, commit, and whether all
    of it must be in the store."""
    found = [_model(repo, name, commit, whole) for name, commit, whole in models]
    shapes = [{key: record.shape for key, record in model.tensors.items()} for model in found]
    resolved = resolve.resolve(recipe, shapes[0], shapes[1:])
    keys = [content_key(model.manifest, model.commit.manifest) for model in found[1:]]
    sources = {key: (int(at["model"]), str(at["key"])) for key, at in sorted(resolved.outputs.items())}
    records = {key: found[number].tensors[source] for key, (number, source) in sources.items()}
    contexts = resolve.contexts(resolved, seed, keys, {key: one.shape for key, one in records.items()})
    places = [
        _Place(key, sources[key][0], record, _is_read(recipe, record, contexts[key]))
        for key, record in records.items()
        if is_merged(record)
    ]
    costs = [read_costs(repo, [place.record]) if place.read else _nothing(place.record) for place in places]
    grid = _grid(places, costs)
    tensors = len(places)
    return PlanInputs(
        operator=recipe.operator,
        additive=False,
        base_model=found[0].name,
        base_commit=found[0].commit_id,
        base_manifest=found[0].commit.manifest,
        grid=grid,
        experts=tuple(
            _columns(model, number, places, costs, grid, resolved.experts[number - 1])
            for number, model in enumerate(found[1:], start=1)
        ),
        base_scale=np.ones(tensors),
        gram=np.zeros(tensors, np.bool_),
        scratch_bytes=np.zeros(tensors, np.int64),
        params=dict(resolved.params),
        tensor_params=resolved.tensors,
        outputs=resolved.outputs,
        out_dtype=recipe.out_dtype or "",
        seed=seed,
        recipe=recipe.text,
        mandatory=True,
        notes=recipe.notes + resolved.notes,
    )


def _model(repo: Repo, name: str, commit_id: ObjectId, whole: bool) -> _Model:
    commit = repo.commit(commit_id)
    manifest = repo.manifest(commit.manifest)
    if manifest.partial and whole:
        raise NotFoundError(
            f"{name} is only partly in the store, and layers are stacked from whole models",
            hint=how_to_fetch(repo, manifest),
        )
    return _Model(name, commit_id, commit, manifest, all_tensors(repo, manifest))


def _is_read(recipe: Recipe, record: TensorRecord, context: TensorContext) -> bool:
    """A tensor that is neither scaled nor cast is the source's: its blocks are named, not read."""
    return (recipe.out_dtype or record.dtype) != record.dtype or not recipe.method.keeps_base(context)


def _nothing(record: TensorRecord) -> Integers:
    return np.zeros(record.blocks, np.int64)


def _grid(places: Sequence[_Place], costs: Sequence[Integers]) -> Grid:
    offsets = np.zeros(len(places) + 1, np.int64)
    np.cumsum([place.record.blocks for place in places], out=offsets[1:])
    none = np.zeros(0, np.int64)
    own = [
        cost if place.model == 0 else np.zeros_like(cost) for place, cost in zip(places, costs, strict=True)
    ]
    return Grid(
        keys=tuple(place.key for place in places),
        offsets=offsets,
        elements=np.concatenate([block_elements(place.record) for place in places] or [none]),
        base_frame_bytes=np.concatenate([*own, none]),
        base_sq=np.full(int(offsets[-1]), np.nan),
        roundoff=np.zeros(len(places)),
        underflow=np.zeros(len(places)),
        keeps_base=np.array([not place.read for place in places], np.bool_),
    )


def _columns(
    model: _Model,
    number: int,
    places: Sequence[_Place],
    costs: Sequence[Integers],
    grid: Grid,
    params: Mapping[str, object],
) -> ExpertColumns:
    n, tensors = grid.blocks, len(places)
    frame_bytes = np.zeros(n, np.int64)
    candidate = np.zeros(n, np.bool_)
    for t, (place, cost) in enumerate(zip(places, costs, strict=True)):
        if place.read and place.model == number:
            rows = slice(int(grid.offsets[t]), int(grid.offsets[t + 1]))
            frame_bytes[rows], candidate[rows] = cost, True
    return ExpertColumns(
        model=model.name,
        commit=model.commit_id,
        manifest=model.commit.manifest,
        kind=model.commit.kind,
        params=dict(params),
        raw_bytes=weight_bytes(model.manifest),
        candidate=candidate,
        frame_bytes=frame_bytes,
        foreign=np.full(n, -1, np.int64),
        foreign_bytes=np.zeros(n, np.int64),
        delta_sq=np.full(n, np.nan),
        coefficient=np.ones(tensors),
        sign=np.ones(tensors),
        whole=np.ones(tensors, np.bool_),
        ranked=np.zeros(tensors, np.bool_),
    )
