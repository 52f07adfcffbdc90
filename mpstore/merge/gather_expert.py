"""The experts of a merge as columns: which blocks they change, what these cost, what the statistics know.

Relies on repository, statistics and gather_stored. Promises: records, statistics and index columns are read,
no block; what does not fit the base raises IncompatibleError naming expert, tensor and both shapes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mpstore.errors import IncompatibleError
from mpstore.ids import ObjectId
from mpstore.merge.elsewhere import WHY as NO_BASE
from mpstore.merge.elsewhere import is_elsewhere
from mpstore.merge.gather_base import BaseModel, Ids, is_merged, misfit, rows_of, weight_bytes
from mpstore.merge.gather_costs import Costs, costs
from mpstore.merge.gather_draft import Draft, draft_of
from mpstore.merge.gather_stored import UNMEASURED, fill_stored
from mpstore.merge.plan_inputs import ExpertColumns, Flags, Floats, Integers, Sketches
from mpstore.merge.stored_header import lacking_tensors
from mpstore.records.model import Manifest, TensorRecord
from mpstore.records.unfetched import never_fetched
from mpstore.repository import Repo
from mpstore.statistics import DeltaStatistics

REMOTE = "its weights are not in the store yet, so nothing is known of its blocks"
_NAMED = 3


@dataclass(frozen=True)
class Expert:
    """What was read of an expert: `columns` (the operator's terms and foreign delta bases' numbers still
    open), |base|^2 per block as its statistics have it (NaN elsewhere), the blocks that are measured and have
    no NaN or infinity, the blocks whose frames lean on
    foreign bases (m,) and these bases' ids (m, 32), and remarks for the user."""

    columns: ExpertColumns
    base_sq: Floats
    finite: Flags
    foreign_rows: Integers
    foreign_ids: Ids
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """An expert: what the user calls it, its commit, and see `gather.Source`."""

    name: str
    commit: ObjectId
    network_bytes: Mapping[str, int]


def read_experts(repo: Repo, base: BaseModel, named: Sequence[Named]) -> list[Expert]:
    """Columns of the experts. Statistics are read in a thread of their own, beside the records."""
    reader = ThreadPoolExecutor(1, "statistics")
    try:
        known = deque(reader.submit(_statistics, repo, base, one) for one in named)
        # Each pair of statistics is let go of once its expert's columns are filled.
        drafts = [_draft(repo, base, one, known.popleft().result) for one in named]
    finally:
        reader.shutdown(cancel_futures=True)
    stored = [np.flatnonzero(draft.candidate & ~draft.priced) for draft in drafts]
    found = costs(
        repo, base.ids, [(rows_of(draft.ids, rows), rows) for draft, rows in zip(drafts, stored, strict=True)]
    )
    return [
        _expert(repo, draft, one, rows, paid)
        for draft, one, rows, paid in zip(drafts, named, stored, found, strict=True)
    ]


def _draft(repo: Repo, base: BaseModel, named: Named, known: Callable[[], DeltaStatistics | None]) -> Draft:
    """What the expert changes, and what is known of it."""
    commit = repo.commit(named.commit)
    manifest = repo.manifest(commit.manifest)
    draft = draft_of(named.name, commit.kind, base)
    if commit.kind == "lora":
        _fill_adapter(draft, repo, manifest, named.network_bytes)
    elif commit.manifest != base.manifest:
        records = dict(repo.tensors(manifest))
        _check_fit(draft, records, _remote_records(repo, base, manifest, named.network_bytes))
        fill_stored(draft, records, known())
        _fill_remote(draft, manifest, named.network_bytes)
        _note_names(draft, manifest)
    return draft


def _expert(repo: Repo, draft: Draft, named: Named, stored: Integers, paid: Costs) -> Expert:
    """The columns of a draft, with what its blocks `stored` cost."""
    draft.frame_bytes[stored] = paid.frame_bytes
    foreign_rows = stored[paid.foreign_rows]
    foreign_bytes = np.broadcast_to(np.int64(0), draft.base.grid.blocks)
    if len(foreign_rows):
        foreign_bytes = np.zeros(draft.base.grid.blocks, np.int64)
        foreign_bytes[foreign_rows] = paid.foreign_bytes
    manifest = repo.commit(named.commit).manifest
    columns = _columns(draft, named.commit, manifest, foreign_bytes)
    raw_bytes = 0 if manifest == draft.base.manifest else weight_bytes(repo.manifest(manifest))
    return Expert(
        replace(columns, raw_bytes=raw_bytes),
        draft.base_sq,
        draft.finite,
        foreign_rows,
        paid.foreign_ids,
        tuple(draft.notes),
    )


def _statistics(repo: Repo, base: BaseModel, named: Named) -> DeltaStatistics | None:
    commit = repo.commit(named.commit)
    if commit.kind == "lora" or commit.manifest == base.manifest:
        return None
    known = repo.statistics(base.manifest, commit.manifest)
    return known if known is not None and known.expert_kind == commit.kind else None


def _check_fit(draft: Draft, records: Mapping[str, TensorRecord], remote: Mapping[str, TensorRecord]) -> None:
    """Every shared tensor has the base's shape; those that are copied must be equal."""
    for key, own in (*records.items(), *remote.items()):
        theirs = draft.base.records.get(key)
        if theirs is None:
            continue
        found = misfit(draft.name, key, own, theirs)
        if found is not None:
            raise found
        both = key in records and not is_elsewhere(theirs)
        copied = not is_merged(theirs) and draft.kind == "full" and both
        if copied and (own.dtype, own.block_ids) != (theirs.dtype, theirs.block_ids):
            raise IncompatibleError(
                f"{draft.name}: tensor {key!r} ({own.dtype}) differs from the base's ({theirs.dtype}), and "
                "such types are copied, not merged",
                hint="an expert must have the base's own tensors of such types",
            )
        if is_merged(own) and own.dtype != theirs.dtype:
            draft.mixed.add(f"{own.dtype} on {theirs.dtype}")


def _remote_records(
    repo: Repo, base: BaseModel, manifest: Manifest, network_bytes: Mapping[str, int]
) -> dict[str, TensorRecord]:
    """Dtype and shape of the tensors that are not in the store, from the files' headers."""
    if not manifest.partial:
        return {}
    found = {}
    for key, tensor in lacking_tensors(repo, manifest).items():
        theirs = base.records.get(key)
        if theirs is None:
            continue
        found[key] = replace(theirs, dtype=tensor.dtype.name, shape=tuple(tensor.shape))
        if is_merged(theirs) and key not in network_bytes:
            raise never_fetched(repo, manifest, [key], manifest.files[0].path)
    return found


def _fill_adapter(draft: Draft, repo: Repo, manifest: Manifest, network_bytes: Mapping[str, int]) -> None:
    """The tensors that a LoRA adapter changes: all or nothing, the whole cost on their first block."""
    from mpstore.merge.gather_adapter import WHY, adapter_targets, target_bytes

    found, records = adapter_targets(repo, manifest, draft.base.records, draft.name)
    for t, key in enumerate(draft.base.grid.keys):
        rows = draft.base.span(t)
        if key in found and rows.stop > rows.start:
            draft.candidate[rows] = draft.priced[rows] = draft.whole[t] = True
            draft.frame_bytes[rows.start] = target_bytes(repo, found[key], records, network_bytes)
            if not all(source in records for source in found[key].sources):
                draft.fallbacks[key] = REMOTE
    draft.fallbacks["*"] = WHY


def _fill_remote(draft: Draft, manifest: Manifest, network_bytes: Mapping[str, int]) -> None:
    """Tensors whose content is elsewhere: all or nothing, the whole cost on their first block."""
    for t, key in enumerate(draft.base.grid.keys):
        rows = draft.base.span(t)
        if manifest.tensors.get(key) == b"" and rows.stop > rows.start:
            draft.candidate[rows] = draft.priced[rows] = draft.whole[t] = True
            draft.frame_bytes[rows.start] = network_bytes[key]
            draft.fallbacks[key] = REMOTE
    if draft.candidate.any() and draft.priced[draft.candidate].all():
        draft.fallbacks = {"*": REMOTE}


def _note_names(draft: Draft, manifest: Manifest) -> None:
    """Remarks: what is missing, what is in excess, mixed dtypes, NaN and infinities."""
    missing = [key for key in draft.base.grid.keys if key not in manifest.tensors]
    extra = [key for key in manifest.tensors if key not in draft.base.records]
    if missing and len(missing) == len(draft.base.grid.keys):
        raise IncompatibleError(
            f"{draft.name} and the base have no tensor in common: it has {_some(sorted(manifest.tensors))}, "
            f"the base {_some(missing)}",
            hint="experts of one merge are fine-tunes of one base: the same tensors, the same shapes",
        )
    if missing:
        draft.notes.append(f"{draft.name} lacks {_some(missing)}: nothing is added there")
    if extra:
        draft.notes.append(f"{draft.name} has {_some(extra)} that the base has not: left out")
    if draft.mixed:
        draft.notes.append(f"{draft.name} mixes dtypes: {', '.join(sorted(draft.mixed))}")
    if draft.nonfinite:
        count = sum(draft.nonfinite.values())
        draft.notes.append(
            f"{draft.name} has {count} NaN or infinite deltas in {_some(list(draft.nonfinite))}"
        )
    if not draft.measured and draft.candidate.any() and not draft.priced[draft.candidate].all():
        draft.fallbacks["*"] = UNMEASURED if draft.base.here else NO_BASE


def _some(keys: list[str]) -> str:
    """ "2 tensors (a, b)", the first few named."""
    named = ", ".join(keys[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
    if not keys:
        return "no tensor"
    return f"{len(keys)} tensor{'s' if len(keys) > 1 else ''} ({named})"


def _columns(draft: Draft, commit: ObjectId, manifest: ObjectId, foreign_bytes: Integers) -> ExpertColumns:
    tensors = len(draft.base.grid.keys)
    return ExpertColumns(
        model=draft.name,
        commit=commit,
        manifest=manifest,
        kind=draft.kind,
        params={},
        raw_bytes=0,
        candidate=draft.candidate,
        frame_bytes=draft.frame_bytes,
        foreign=np.broadcast_to(np.int64(-1), len(foreign_bytes)),
        foreign_bytes=foreign_bytes,
        delta_sq=np.where(draft.candidate, draft.delta_sq, np.nan),
        coefficient=np.ones(tensors),
        sign=np.ones(tensors),
        whole=draft.whole,
        ranked=np.zeros(tensors, np.bool_),
        fallbacks=draft.fallbacks,
        sketches=Sketches(draft.sketch, draft.sketch_scale) if draft.measured else None,
    )
