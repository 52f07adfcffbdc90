"""What a repository holds and what it costs: by branch, by codec, and what would go if a branch went.

Relies on repository and reachability. Promises: reads records and indexes, never blocks; what only a branch
needs counts the bases that only its deltas lean on.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from mpstore import codecs
from mpstore.errors import DamagedError, NotFoundError
from mpstore.ids import ObjectId
from mpstore.reachability import Marker, whole_table
from mpstore.repository import Repo
from mpstore.store.frame import RECORD_FORM, record_form
from mpstore.store.packindex import IndexTable

_COLUMNS_FORM = record_form("columns")


@dataclass(frozen=True)
class BranchUsage:
    """raw_bytes: files of all checkpoints in the branch's history; blocks, stored_bytes: distinct frames that
    history needs (shared ones too); own_*: what would go if this branch (or tag) went, and gc ran."""

    name: str
    commits: int
    raw_bytes: int
    blocks: int
    stored_bytes: int
    own_objects: int
    own_bytes: int


@dataclass(frozen=True)
class CodecUsage:
    """Blocks stored with one codec; raw_bytes decoded, stored_bytes with their frames' headers."""

    codec: str
    blocks: int
    raw_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class Usage:
    """raw_bytes: files of all checkpoints of all commits; distinct_bytes: decoded bytes of distinct blocks;
    stored_bytes: all packs; total_bytes: everything in `.mp`; unreachable_*: what no branch or tag needs;
    gc keeps those of them that recent reflog entries or stored plans of living models need.

    Dedup is raw_bytes / distinct_bytes, compression distinct_bytes / stored_bytes.
    """

    commits: int
    blocks: int
    raw_bytes: int
    distinct_bytes: int
    stored_bytes: int
    index_bytes: int
    stats_bytes: int
    record_bytes: int
    total_bytes: int
    packs: int
    unreachable_objects: int
    unreachable_bytes: int
    branches: tuple[BranchUsage, ...]
    codecs: tuple[CodecUsage, ...]

    def as_json(self) -> dict[str, object]:
        """Keys of `mp stats --json`."""
        return asdict(self)


def usage(repo: Repo) -> Usage:
    """Measure a repository. What is lost or damaged is left out: fsck speaks of that."""
    table = whole_table(repo)
    names = [*repo.refs.names("heads/"), *repo.refs.names("tags/")]
    marks = [(name, _marked(repo, table, name)) for name in names]
    reached = np.zeros(table.rows, np.int32)
    for _, marker in marks:
        reached += marker.live
    raw_bytes = _RawBytes(repo)
    commits: set[ObjectId] = set()
    for _, marker in marks:
        commits |= marker.commits
    is_block = (table.form & RECORD_FORM) == 0
    columns = np.asarray(table.form == _COLUMNS_FORM)
    dead = (reached == 0) & ~columns
    layout = repo.objects.layout
    return Usage(
        commits=len(commits),
        blocks=int(is_block.sum()),
        raw_bytes=sum(raw_bytes.of_commit(one) for one in commits),
        distinct_bytes=_sum(table.raw_bytes, is_block),
        stored_bytes=sum(info.size_bytes for info in table.packs),
        index_bytes=_directory_bytes(layout.packs, ".idx") + _directory_bytes(layout.cache, ".idx"),
        stats_bytes=_sum(table.frame_bytes, columns),
        record_bytes=_sum(table.frame_bytes, ~is_block),
        total_bytes=_directory_bytes(repo.root, ""),
        packs=len(table.packs),
        unreachable_objects=int(dead.sum()),
        unreachable_bytes=_sum(table.frame_bytes, dead),
        branches=tuple(_branch(table, name, marker, reached, raw_bytes) for name, marker in marks),
        codecs=_by_codec(table, is_block),
    )


def _marked(repo: Repo, table: IndexTable, name: str) -> Marker:
    marker = Marker(repo, table)
    try:
        ref = repo.refs.read(name)
    except DamagedError:
        return marker
    if ref is not None:
        marker.mark_commits([ref.value])
        marker.mark_bases()
    return marker


class _RawBytes:
    """Bytes of the files of a commit's checkpoint, each manifest read once."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._known: dict[ObjectId, int] = {}

    def of_commit(self, commit_id: ObjectId) -> int:
        try:
            manifest_id = self._repo.commit(commit_id).manifest
            if manifest_id not in self._known:
                files = self._repo.manifest(manifest_id).files
                self._known[manifest_id] = sum(entry.size for entry in files)
        except (DamagedError, NotFoundError):
            return 0
        return self._known[manifest_id]


def _branch(
    table: IndexTable, name: str, marker: Marker, reached: npt.NDArray[np.int32], raw_bytes: _RawBytes
) -> BranchUsage:
    own = marker.live & (reached == 1)
    return BranchUsage(
        name=name,
        commits=len(marker.commits),
        raw_bytes=sum(raw_bytes.of_commit(one) for one in marker.commits),
        blocks=int((marker.live & ((table.form & RECORD_FORM) == 0)).sum()),
        stored_bytes=_sum(table.frame_bytes, marker.live),
        own_objects=int(own.sum()),
        own_bytes=_sum(table.frame_bytes, own),
    )


def _by_codec(table: IndexTable, is_block: npt.NDArray[np.bool_]) -> tuple[CodecUsage, ...]:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for codec in np.unique(table.codec[is_block]).tolist():
        chosen = is_block & (table.codec == codec)
        total = totals[codecs.name(codec)]
        total[0] += int(chosen.sum())
        total[1] += _sum(table.raw_bytes, chosen)
        total[2] += _sum(table.frame_bytes, chosen)
    return tuple(CodecUsage(name, *total) for name, total in sorted(totals.items()))


def _sum(column: npt.NDArray[np.uint32], rows: npt.NDArray[np.bool_]) -> int:
    return int(column[rows].astype(np.int64).sum())


def _directory_bytes(directory: str, suffix: str) -> int:
    """Bytes of the files below a directory; what goes away meanwhile is not counted."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            if name.endswith(suffix):
                try:
                    total += os.path.getsize(os.path.join(parent, name))
                except FileNotFoundError:
                    continue
    return total


def own_bytes(repo: Repo, names: Sequence[str]) -> int:
    """Bytes of frames that would go if all these refs went together, and gc ran."""
    table = whole_table(repo)
    kept = Marker(repo, table)
    every = [*repo.refs.names("heads/"), *repo.refs.names("tags/")]
    others = [name for name in every if name not in set(names)]
    refs = [repo.refs.read(name) for name in others]
    kept.mark_commits([ref.value for ref in refs if ref is not None])
    kept.mark_bases()
    gone = np.zeros(table.rows, np.bool_)
    for name in names:
        gone |= _marked(repo, table, name).live
    return _sum(table.frame_bytes, gone & ~kept.live)
