"""One expert of a merge as columns: which blocks it changes, what they cost, what the statistics know.

Relies on repository, statistics and gather_base. Promises: records, statistics and index columns are read, no
block; what does not fit the base raises IncompatibleError naming expert, tensor and both shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mpstore import blocks, dtypes
from mpstore.errors import IncompatibleError, NotFoundError
from mpstore.ids import ID_BYTES, ObjectId, block_id
from mpstore.merge.elsewhere import WHY as NO_BASE
from mpstore.merge.elsewhere import is_elsewhere
from mpstore.merge.gather_adapter import WHY as ADAPTER
from mpstore.merge.gather_adapter import adapter_targets, target_bytes
from mpstore.merge.gather_base import (
    BaseModel,
    Ids,
    block_ids,
    foreign_bases,
    is_merged,
    located,
    misfit,
    weight_bytes,
)
from mpstore.merge.plan_inputs import ExpertColumns, Flags, Floats, Integers, Sketches
from mpstore.merge.stored_header import lacking_tensors
from mpstore.records.model import CommitKind, Manifest, TensorRecord
from mpstore.repository import Repo
from mpstore.statistics import SKETCH_WIDTH, DeltaStatistics

UNMEASURED = "no statistics of this expert and base: `mp analyze` makes them"
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


@dataclass
class _Draft:
    """Columns while they are filled tensor by tensor; `priced`: blocks whose cost is known already."""

    name: str
    kind: CommitKind
    base: BaseModel
    known: DeltaStatistics | None
    candidate: Flags
    ids: Ids
    frame_bytes: Integers
    delta_sq: Floats
    base_sq: Floats
    finite: Flags
    whole: Flags
    sketch: npt.NDArray[np.int8]
    sketch_scale: npt.NDArray[np.float32]
    priced: Flags
    fallbacks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mixed: set[str] = field(default_factory=set)
    nonfinite: dict[str, int] = field(default_factory=dict)


def read_expert(
    repo: Repo, base: BaseModel, name: str, commit_id: ObjectId, network_bytes: Mapping[str, int]
) -> Expert:
    """Columns of the expert that the user calls `name`. `network_bytes`: see `gather.Source`."""
    commit = repo.commit(commit_id)
    manifest = repo.manifest(commit.manifest)
    itself = commit.manifest == base.manifest
    draft = _draft(name, commit.kind, base)
    if commit.kind == "lora":
        _fill_adapter(draft, repo, manifest, network_bytes)
    elif not itself:
        draft.known = _statistics(repo, base, commit.manifest, commit.kind)
        records = dict(repo.tensors(manifest))
        _check_fit(draft, records, _remote_records(repo, base, manifest, network_bytes))
        for t, key in enumerate(base.grid.keys):
            if key in records:
                _fill(draft, t, key, records[key])
        _fill_remote(draft, manifest, network_bytes)
        _note_names(draft, manifest)
    foreign_bytes, rows, ids = _costs(repo, draft)
    columns = _columns(draft, commit_id, commit.manifest, foreign_bytes)
    raw_bytes = 0 if itself else weight_bytes(manifest)
    return Expert(
        replace(columns, raw_bytes=raw_bytes), draft.base_sq, draft.finite, rows, ids, tuple(draft.notes)
    )


def _draft(name: str, kind: CommitKind, base: BaseModel) -> _Draft:
    n = base.grid.blocks
    return _Draft(
        name=name,
        kind=kind,
        base=base,
        known=None,
        candidate=np.zeros(n, np.bool_),
        ids=np.zeros((n, ID_BYTES), np.uint8),
        frame_bytes=np.zeros(n, np.int64),
        delta_sq=np.full(n, np.nan),
        base_sq=np.full(n, np.nan),
        finite=np.zeros(n, np.bool_),
        whole=np.zeros(len(base.grid.keys), np.bool_),
        sketch=np.zeros((n, SKETCH_WIDTH), np.int8),
        sketch_scale=np.zeros(n, np.float32),
        priced=np.zeros(n, np.bool_),
    )


def _statistics(repo: Repo, base: BaseModel, manifest: ObjectId, kind: CommitKind) -> DeltaStatistics | None:
    known = repo.statistics(base.manifest, manifest)
    return known if known is not None and known.expert_kind == kind else None


def _check_fit(
    draft: _Draft, records: Mapping[str, TensorRecord], remote: Mapping[str, TensorRecord]
) -> None:
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
                "integers are copied, not merged",
                hint="an expert must have the same integer tensors as its base",
            )
        if is_merged(own) and own.dtype != theirs.dtype:
            draft.mixed.add(f"{own.dtype} on {theirs.dtype}")


def _fill(draft: _Draft, t: int, key: str, record: TensorRecord) -> None:
    """One tensor that is in the store."""
    rows, theirs = draft.base.span(t), draft.base.records[key]
    ids = block_ids(record.block_ids)
    draft.ids[rows] = ids
    if draft.kind == "delta":
        moved = (ids != _zero_ids(record)).any(axis=1)
    elif record.dtype == theirs.dtype:
        moved = (ids != draft.base.ids[rows]).any(axis=1)
    else:
        moved = np.ones(len(ids), np.bool_)
    measured = draft.known.rows(key) if draft.known is not None else slice(0, 0)
    if draft.known is None or measured.stop - measured.start != record.blocks:
        draft.whole[t] = bool(moved.any())
        if draft.known is not None and moved.any():
            draft.fallbacks[key] = UNMEASURED
    else:
        known = draft.known
        odd = known.nonfinite[measured]
        moved &= (known.delta_max[measured] != 0) | (odd > 0)
        draft.delta_sq[rows] = known.delta_sq[measured]
        draft.base_sq[rows] = known.base_sq[measured]
        draft.finite[rows] = odd == 0
        draft.sketch[rows], draft.sketch_scale[rows] = known.sketch[measured], known.sketch_scale[measured]
        if odd.any():
            draft.nonfinite[key] = int(odd.sum())
    draft.candidate[rows] = moved


def _zero_ids(record: TensorRecord) -> Ids:
    """The ids that the tensor's blocks would have if all its bytes were zero."""
    bits = dtypes.known(record.dtype).bits
    sizes = list(blocks.byte_lengths(math.prod(record.shape) * bits // 8, bits, record.block_elements))
    ids = {size: block_id(bytes(size)) for size in set(sizes)}
    return block_ids(b"".join(ids[size] for size in sizes))


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
            raise NotFoundError(
                f"tensor {key!r} of {manifest.files[0].path} was never fetched",
                hint="`mp pull` its origin completes it",
            )
    return found


def _fill_adapter(draft: _Draft, repo: Repo, manifest: Manifest, network_bytes: Mapping[str, int]) -> None:
    """The tensors that a LoRA adapter changes: all or nothing, the whole cost on their first block."""
    found, records = adapter_targets(repo, manifest, draft.base.records, draft.name)
    for t, key in enumerate(draft.base.grid.keys):
        rows = draft.base.span(t)
        if key in found and rows.stop > rows.start:
            draft.candidate[rows] = draft.priced[rows] = draft.whole[t] = True
            draft.frame_bytes[rows.start] = target_bytes(repo, found[key], records, network_bytes)
            if not all(source in records for source in found[key].sources):
                draft.fallbacks[key] = REMOTE
    draft.fallbacks["*"] = ADAPTER


def _fill_remote(draft: _Draft, manifest: Manifest, network_bytes: Mapping[str, int]) -> None:
    """Tensors whose content is elsewhere: all or nothing, the whole cost on their first block."""
    for t, key in enumerate(draft.base.grid.keys):
        rows = draft.base.span(t)
        if manifest.tensors.get(key) == b"" and rows.stop > rows.start:
            draft.candidate[rows] = draft.priced[rows] = draft.whole[t] = True
            draft.frame_bytes[rows.start] = network_bytes[key]
            draft.fallbacks[key] = REMOTE
    if draft.candidate.any() and draft.priced[draft.candidate].all():
        draft.fallbacks = {"*": REMOTE}


def _note_names(draft: _Draft, manifest: Manifest) -> None:
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
    if draft.known is None and draft.candidate.any() and not draft.priced[draft.candidate].all():
        draft.fallbacks["*"] = UNMEASURED if draft.base.here else NO_BASE


def _some(keys: list[str]) -> str:
    """ "2 tensors (a, b)", the first few named."""
    named = ", ".join(keys[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
    if not keys:
        return "no tensor"
    return f"{len(keys)} tensor{'s' if len(keys) > 1 else ''} ({named})"


def _costs(repo: Repo, draft: _Draft) -> tuple[Integers, Integers, Ids]:
    """Fill in the frames' costs; per block what its foreign base costs, the blocks with one, and its id."""
    foreign_bytes = np.zeros(draft.base.grid.blocks, np.int64)
    stored = np.flatnonzero(draft.candidate & ~draft.priced)
    places = located(repo, draft.ids[stored])
    draft.frame_bytes[stored] = places.frame_bytes
    leans, ids = foreign_bases(places, draft.base.ids[stored])
    foreign_bytes[stored[leans]] = located(repo, ids).frame_bytes
    return foreign_bytes, stored[leans], ids


def _columns(draft: _Draft, commit: ObjectId, manifest: ObjectId, foreign_bytes: Integers) -> ExpertColumns:
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
        foreign=np.full(len(foreign_bytes), -1, np.int64),
        foreign_bytes=foreign_bytes,
        delta_sq=np.where(draft.candidate, draft.delta_sq, np.nan),
        coefficient=np.ones(tensors),
        sign=np.ones(tensors),
        whole=draft.whole,
        ranked=np.zeros(tensors, np.bool_),
        fallbacks=draft.fallbacks,
        sketches=None if draft.known is None else Sketches(draft.sketch, draft.sketch_scale),
    )
