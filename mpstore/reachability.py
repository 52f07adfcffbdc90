"""Roots and what they reach: the marking that gc, fsck and usage share, over the rows of one table of packs.

Relies on repository and store's tables. Promises: every commit, manifest and tensor record is visited once;
what cannot be found or read is reported, never passed over; delta bases of what is marked are marked too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from mpstore.errors import UNREADABLE, DamagedError, NotFoundError, StorageError
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.records.model import Commit, Manifest, Plan, TensorRecord
from mpstore.records.reflog import LogEntry
from mpstore.repository import Repo
from mpstore.store import packindex
from mpstore.store.frame import record_form
from mpstore.store.packindex import IndexTable
from mpstore.store.sessions import SessionInfo, read_sessions

R = TypeVar("R", Commit, Manifest, TensorRecord)
_PLAN_FORM: Final = record_form("plan")


@dataclass(frozen=True)
class Roots:
    """What is needed: commits (of refs, of reflog entries in the window, pinned) and pinned packs."""

    commits: frozenset[ObjectId]
    pinned_commits: frozenset[ObjectId]
    packs: frozenset[ObjectId]
    sessions: tuple[SessionInfo, ...]


@dataclass(frozen=True)
class Lost:
    """An object that something names and that cannot be had. kind: "block" or the record's kind; `opaque`:
    what lies behind it is unknown, so nothing can be called unreachable."""

    id: ObjectId
    kind: str
    reason: str

    @property
    def opaque(self) -> bool:
        return self.kind in ("commit", "manifest", "tensor")


class Marker:
    """Marks rows of a table as reached. `live` is bool[rows]; `lost` what could not be found, by id;
    `block_sizes`: how many elements the blocks of reached tensors have."""

    def __init__(self, repo: Repo, table: IndexTable) -> None:
        self.repo = repo
        self.table = table
        self.live = np.zeros(table.rows, np.bool_)
        self.lost: dict[ObjectId, Lost] = {}
        self.commits: set[ObjectId] = set()
        self.manifests: set[ObjectId] = set()
        self.tensors: set[ObjectId] = set()
        self.block_sizes: set[int] = set()

    def fork(self, table: IndexTable) -> Marker:
        """A marker over another table that need not visit again what this one has visited."""
        other = Marker(self.repo, table)
        other.commits |= self.commits
        other.manifests |= self.manifests
        other.tensors |= self.tensors
        return other

    def mark_commits(self, commits: Iterable[ObjectId]) -> None:
        """Mark what these commits reach: their history, manifests, tensors, blocks, plans and coverage."""
        waiting = list(commits)
        manifests: list[ObjectId] = []
        while waiting:
            commit_id = waiting.pop()
            if commit_id in self.commits:
                continue
            self.commits.add(commit_id)
            commit = self._load(Commit, commit_id)
            if commit is None:
                continue
            waiting += [parent.commit for parent in commit.parents]
            manifests.append(commit.manifest)
            for key in ("plan", "coverage"):
                named = _id_of(commit.how.get(key))
                if named is not None:
                    self._mark_records([named], key)
        self.mark_manifests(manifests)

    def mark_manifests(self, manifests: Iterable[ObjectId]) -> None:
        """Mark manifests and what they name."""
        new = [one for one in dict.fromkeys(manifests) if one not in self.manifests]
        self.manifests.update(new)
        for manifest_id in new:
            manifest = self._load(Manifest, manifest_id)
            if manifest is None:
                continue
            for entry in manifest.files:
                self.mark_blocks(entry.content_ids)
            self._mark_tensors([one for one in manifest.tensors.values() if one])

    def _mark_tensors(self, records: Iterable[ObjectId]) -> None:
        new = [one for one in dict.fromkeys(records) if one not in self.tensors]
        self.tensors.update(new)
        self._mark_records(new, "tensor")
        blocks = []
        for record in self._tensor_records(new):
            self.block_sizes.add(record.block_elements)
            blocks.append(record.block_ids)
        self.mark_blocks(b"".join(blocks))

    def _tensor_records(self, ids: list[ObjectId]) -> Iterator[TensorRecord]:
        try:
            yield from self.repo.load_many(TensorRecord, ids).values()
            return
        except UNREADABLE:
            pass  # one by one then, to say which
        for one in ids:
            record = self._load(TensorRecord, one)
            if record is not None:
                yield record

    def _load(self, cls: type[R], own_id: ObjectId) -> R | None:
        self._mark_records([own_id], cls.KIND)
        try:
            return self.repo.load(cls, own_id)
        except UNREADABLE as error:
            self.lost[own_id] = Lost(own_id, cls.KIND, error.message)
            return None

    def _mark_records(self, ids: list[ObjectId], kind: str) -> None:
        self.mark_ids(packindex.as_ids(b"".join(ids)), kind)

    def mark_blocks(self, concatenated: bytes) -> None:
        """Mark blocks by their concatenated ids."""
        self.mark_ids(packindex.as_ids(concatenated), "block")

    def mark_ids(self, ids: npt.NDArray[np.uint8], kind: str) -> None:
        """Mark any objects (uint8[n, 32])."""
        rows = self.table.search(ids)
        self.live[rows[rows >= 0]] = True
        for i in np.flatnonzero(rows < 0):
            own_id = ids[i].tobytes()
            self.lost.setdefault(own_id, Lost(own_id, kind, "it is in no pack"))

    def mark_packs(self, packs: Iterable[ObjectId]) -> None:
        """Mark all that lies in these packs, as far as the table has them."""
        wanted = set(packs)
        numbers = [i for i, info in enumerate(self.table.packs) if info.id in wanted]
        if numbers:
            self.live |= np.isin(self.table.pack, numbers)

    def mark_plans(self) -> None:
        """Mark stored plans that no commit names while all that they read is marked: they can be executed."""
        for row in np.flatnonzero((self.table.form == _PLAN_FORM) & ~self.live):
            own_id = self.table.ids([row])[0].tobytes()
            try:
                plan = self.repo.load(Plan, own_id)
            except (DamagedError, NotFoundError):
                continue
            except StorageError:  # closed to us: it may be one of them
                self.live[row] = True
                continue
            if {plan.base_manifest, *(expert.manifest for expert in plan.experts)} <= self.manifests:
                self.live[row] = True

    def mark_bases(self) -> int:
        """Mark what marked deltas lean on; how many rows that added."""
        added = 0
        while True:
            rows = np.flatnonzero(self.live)
            bases = self.table.base_ids(rows)
            bases = bases[bases.any(axis=1)]
            found = self.table.search(bases)
            for own_id in bases[found < 0]:
                one = own_id.tobytes()
                self.lost.setdefault(one, Lost(one, "block", "a delta leans on it, and it is in no pack"))
            found = np.unique(found[found >= 0])
            new = found[~self.live[found]]
            if not new.size:
                return added
            self.live[new] = True
            added += int(new.size)


def _id_of(value: object) -> ObjectId | None:
    """A hex id from a commit's `how`; None where there is none."""
    if not isinstance(value, str) or len(value) != 2 * ID_BYTES:
        return None
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None


def whole_table(repo: Repo) -> IndexTable:
    """One table over all packs there are; of copies of an object those that can be decoded come first."""
    repo.objects.refresh()
    tables = [numbered.table for numbered in repo.objects.packs.tables()]
    table = tables[0] if len(tables) == 1 else packindex.merge(tables)
    lost = table.search(table.bases) < 0
    if not lost.any():
        return table
    rows = np.flatnonzero(table.base_row < len(table.bases))
    return packindex.demote(table, rows[lost[table.base_row[rows]]])


def read_roots(repo: Repo, cutoff_ns: int, dropped: Container[str] = ()) -> Roots:
    """Read sessions (but those whose paths are dropped), refs and logs as they are now. DamagedError: the
    newest move of a ref cannot be read.

    Sessions first: a writer moves its ref before it unregisters, so one of the two is seen. A ref that is
    removed while this reads stays a root by its log entry, which is younger than any cutoff.
    """
    registered = read_sessions(repo.objects.layout.sessions)
    sessions = tuple(one for one in registered if not one.dead and one.path not in dropped)
    commits: set[ObjectId] = set()
    for name in logged_names(repo):
        ref = repo.refs.settled(name)
        if ref is not None:
            commits.add(ref.value)
        entries = repo.refs.log(name)[::-1]
        commits |= _kept_by_log(entries, cutoff_ns)
        old = entries[0].old if entries and entries[0].time_ns >= cutoff_ns else None
        # What the first superseded stays too where the entry before it is damaged, not where it was pruned.
        if old and os.path.exists(os.path.join(repo.root, "logs", name, f"@{entries[0].seq - 1}")):
            commits.add(old)
    return Roots(
        frozenset(commits),
        frozenset(one for session in sessions for one in session.commits),
        frozenset(one for session in sessions for one in session.packs),
        sessions,
    )


@contextlib.contextmanager
def hold(repo: Repo, commit_id: ObjectId) -> Iterator[None]:
    """Keep what a commit reaches while the body runs, so that it can be given a name that gc respects.

    DamagedError: some of it is not there (any more). Only a commit that no ref names must be looked through.
    """
    with repo.objects.writer("hold") as writer:
        writer.pin_commit(commit_id)
        named = {**repo.refs.values("heads/"), **repo.refs.values("tags/")}
        if all(ref.value != commit_id for ref in named.values()):
            marker = Marker(repo, whole_table(repo))
            marker.mark_commits([commit_id])
            marker.mark_bases()
            for lost in marker.lost.values():
                repo.objects.find(lost.id)  # it may lie in the trash still, and comes back
        yield


def logged_names(repo: Repo) -> list[str]:
    """Branches and tags, deleted ones that have a history too."""
    return [name for prefix in ("heads/", "tags/") for name in repo.refs.names(prefix, deleted=True)]


def _kept_by_log(entries: Sequence[LogEntry], cutoff_ns: int) -> set[ObjectId]:
    """Values that entries (oldest first) keep: those superseded since the cutoff, and the newest."""
    first = 0
    while first + 1 < len(entries) and entries[first + 1].time_ns < cutoff_ns:
        first += 1
    kept = {entry.new for entry in entries[first:]} | {entry.old for entry in entries[first + 1 :]}
    return {one for one in kept if one is not None}


def mark_statistics(repo: Repo, marker: Marker) -> tuple[str, ...]:
    """Mark statistics of which both manifests live; names of the others."""
    living = {one.hex()[:16] for one in marker.manifests}
    dead = []
    for name in repo.refs.names("stats/"):
        base, _, expert = name.removeprefix("stats/").partition("-")
        if not {base, expert} <= living:
            dead.append(name)
            continue
        with contextlib.suppress(DamagedError):
            ref = repo.refs.read(name)
            if ref is not None:
                marker.mark_ids(packindex.as_ids(ref.value), "columns")
    return tuple(dead)
