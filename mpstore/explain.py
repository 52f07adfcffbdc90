"""Which experts reached which tensor of a merge: planned against realized, block by block.

Relies on repository, revisions and history. Promises: tells from records alone, no weights are read; what
cannot be known (an adapter's reach, an expert that is gone) is None, not a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from mpstore import history, revisions
from mpstore.errors import DamagedError, NotFoundError, UsageError
from mpstore.history import PlanSummary
from mpstore.ids import ID_BYTES, ObjectId, short
from mpstore.records.model import Coverage, Json, Manifest, Plan, PlanExpert, TensorRecord
from mpstore.repository import Repo
from mpstore.suggestions import nearest

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reach:
    """What one expert did to one tensor, in blocks of the output.

    planned: selected by the plan; realized: read and applied, by the coverage record; equal: the expert's
    block is the base's, so there was nothing to read; omitted: it differs, and was not read. The last two are
    None where block ids cannot tell (deltas, adapters, another partition, an expert that is gone).
    stored_bytes: what reading the planned blocks costs as they are stored now (None: not asked, or gone).
    threshold: "exact", "edge" or "none", how the operator's thresholds were found. fallback: why the tensor
    was selected whole ("": it was not). params: the expert's own for this tensor, where they differ.
    """

    planned_blocks: int
    realized_blocks: int
    equal_blocks: int | None
    omitted_blocks: int | None
    stored_bytes: int | None
    threshold: str
    fallback: str
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorReach:
    """One tensor of the output. changed_blocks: how many of its blocks are not the base's (of a stack of
    layers: all). `experts` in the plan's order. params: the operator's for this tensor, where they differ."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    blocks: int
    changed_blocks: int
    experts: tuple[Reach, ...]
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class ExpertReach:
    """One expert over the whole merge. tensors: how many it reached; planned_bytes: what it might cost."""

    model: str
    commit: ObjectId
    kind: str
    params: Mapping[str, Json]
    tensors: int
    planned_blocks: int
    realized_blocks: int
    planned_bytes: int


@dataclass(frozen=True)
class Explanation:
    """A merge explained. `as_planned`: exactly the plan's blocks were read and applied."""

    commit: ObjectId
    plan: PlanSummary
    as_planned: bool
    params: Mapping[str, Json]
    figures: Mapping[str, Json]
    experts: tuple[ExpertReach, ...]
    tensors: tuple[TensorReach, ...]


def explain(repo: Repo, revision: str, patterns: Sequence[str] = ()) -> Explanation:
    """How a merge commit came about; `patterns` (globs over tensor keys) narrow the tensors and add bytes.

    UsageError: no merge. NotFoundError: no tensor fits.
    """
    commit_id = revisions.resolve(repo, revision)
    commit = repo.commit(commit_id)
    plan_id, coverage_id = history.plan_id_of(commit), history.coverage_id_of(commit)
    if plan_id is None or coverage_id is None:
        verb = str(commit.how.get("verb", "commit"))
        raise UsageError(
            f"{short(commit_id)} was made by {verb}, not by a merge",
            hint=f"mp show {revision} tells about it",
        )
    plan, coverage = repo.plan(plan_id), repo.coverage(coverage_id)
    _check_pair(plan_id, plan, coverage)
    output = repo.manifest(commit.manifest)
    keys = _chosen(output, patterns)
    view = _View(repo, plan, coverage, output, with_bytes=bool(patterns))
    return Explanation(
        commit=commit_id,
        plan=history.summarize(plan_id, plan),
        as_planned=all(
            dict(expert.selection) == dict(touched)
            for expert, touched in zip(plan.experts, coverage.touched, strict=True)
        ),
        params=plan.params,
        figures=commit.how.get("figures") or coverage.figures,
        experts=tuple(view.expert(number) for number in range(len(plan.experts))),
        tensors=tuple(view.tensor(key) for key in keys if view.has(key)),
    )


def _check_pair(plan_id: ObjectId, plan: Plan, coverage: Coverage) -> None:
    if coverage.plan != plan_id or len(coverage.touched) != len(plan.experts):
        raise DamagedError(f"the coverage record is not that of plan {short(plan_id)}")


def _chosen(output: Manifest, patterns: Sequence[str]) -> list[str]:
    keys = sorted(output.tensors)
    if not patterns:
        return keys
    chosen = [key for key in keys if any(key == one or fnmatchcase(key, one) for one in patterns)]
    if not chosen:
        raise NotFoundError(f"no tensor fits {' or '.join(patterns)}", hint=nearest(patterns[0], keys))
    return chosen


class _View:
    """The records of one merge, loaded once."""

    def __init__(
        self, repo: Repo, plan: Plan, coverage: Coverage, output: Manifest, with_bytes: bool
    ) -> None:
        self._repo = repo
        self._plan = plan
        self._coverage = coverage
        self._with_bytes = with_bytes
        self._output = repo.tensors(output)
        self._base = self._tensors(plan.base_manifest, "the base") or {}
        self._experts = [self._tensors(expert.manifest, expert.model) for expert in plan.experts]

    def _tensors(self, manifest_id: ObjectId, model: str) -> Mapping[str, TensorRecord] | None:
        try:
            return self._repo.tensors(self._repo.manifest(manifest_id))
        except (DamagedError, NotFoundError) as error:
            self._repo.progress.warn(f"{model} cannot be read: {error.message}")
            return None

    def expert(self, number: int) -> ExpertReach:
        expert, touched = self._plan.experts[number], self._coverage.touched[number]
        return ExpertReach(
            model=expert.model,
            commit=expert.commit,
            kind=expert.kind,
            params=expert.params,
            tensors=sum(1 for bits in touched.values() if any(bits)),
            planned_blocks=sum(map(_count, expert.selection.values())),
            realized_blocks=sum(map(_count, touched.values())),
            planned_bytes=expert.cost_bytes,
        )

    def has(self, key: str) -> bool:
        """Whether the output's tensor is in the store (a partial manifest may lack it)."""
        return key in self._output

    def tensor(self, key: str) -> TensorReach:
        record = self._output[key]
        stacked = bool(self._plan.outputs)  # layers put together anew have no base to differ from
        base = None if stacked else self._base.get(key)
        changed = record.blocks if base is None else int((~_equal(record, base)).sum())
        overrides = self._plan.tensor_params.get(key) or {}
        own = overrides.get("experts") or [{}] * len(self._plan.experts)
        return TensorReach(
            key=key,
            dtype=record.dtype,
            shape=record.shape,
            blocks=record.blocks,
            changed_blocks=changed,
            experts=tuple(
                self._reach(number, key, record.blocks, base, own)
                for number in range(len(self._plan.experts))
            ),
            params=overrides.get("global") or {},
        )

    def _reach(
        self,
        number: int,
        key: str,
        blocks: int,
        base: TensorRecord | None,
        own: Sequence[Mapping[str, Json]],
    ) -> Reach:
        expert = self._plan.experts[number]
        planned = _bits(expert.selection.get(key, b""), blocks)
        realized = _bits(self._coverage.touched[number].get(key, b""), blocks)
        equal = self._equal_blocks(number, key, base)
        stated = self._plan.facts.get(key, "").split(",")
        return Reach(
            planned_blocks=int(planned.sum()),
            realized_blocks=int(realized.sum()),
            equal_blocks=None if equal is None else int(equal.sum()),
            omitted_blocks=None if equal is None else int((~equal & ~planned).sum()),
            stored_bytes=self._stored_bytes(number, key, planned) if self._with_bytes else None,
            threshold=stated[number] if number < len(stated) and stated[number] else "none",
            fallback=self._fallback(number, expert, key),
            params=own[number] if number < len(own) else {},
        )

    def _equal_blocks(self, number: int, key: str, base: TensorRecord | None) -> Flags | None:
        """Which blocks of a full expert are the base's; a tensor that it lacks is all equal."""
        records = self._experts[number]
        if self._plan.experts[number].kind != "full" or records is None or base is None:
            return None
        record = records.get(key)
        if record is None:
            return np.ones(base.blocks, np.bool_)
        return _equal(record, base) if _same_partition(record, base) else None

    def _stored_bytes(self, number: int, key: str, planned: Flags) -> int | None:
        records = self._experts[number]
        source = self._plan.outputs.get(key, {}).get("key", key)
        record = None if records is None else records.get(source)
        if record is None or record.blocks != len(planned):
            return None
        places = self._repo.objects.locate(record.block_ids)
        return int(places.frame_bytes[planned].sum()) if places.found[planned].all() else None

    def _fallback(self, number: int, expert: PlanExpert, key: str) -> str:
        fallbacks = self._plan.fallbacks
        return fallbacks.get(f"{number} {expert.model}: {key}") or fallbacks.get(
            f"{number} {expert.model}: *", ""
        )


def _same_partition(one: TensorRecord, other: TensorRecord) -> bool:
    return (one.dtype, one.shape, one.block_elements) == (other.dtype, other.shape, other.block_elements)


def _equal(one: TensorRecord, other: TensorRecord) -> Flags:
    """Per block of `one`, whether `other` has the same there; all False where the partitions differ."""
    if not _same_partition(one, other):
        return np.zeros(one.blocks, np.bool_)
    ids = [np.frombuffer(record.block_ids, f"V{ID_BYTES}") for record in (one, other)]
    return np.asarray(ids[0] == ids[1])


def _bits(packed: bytes, blocks: int) -> Flags:
    """One flag a block; absent bits are False."""
    flags = np.zeros(blocks, np.bool_)
    found = np.unpackbits(np.frombuffer(packed, np.uint8))[:blocks].astype(np.bool_)
    flags[: len(found)] = found
    return flags


def _count(packed: bytes) -> int:
    return int.from_bytes(packed, "big").bit_count()


__all__ = ["ExpertReach", "Explanation", "Reach", "TensorReach", "explain"]
