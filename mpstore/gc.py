"""Garbage collection: plan, figures, execute. What nothing needs goes; nothing else ever does.

Relies on repository, reachability and store. Promises: safe with any number of writers and readers alive,
and interruptible at any moment (docs/reliability.md says why); a repository too damaged to know what its refs
reach is left alone; time grows with what is reachable plus what is removed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore import files, processes
from mpstore.codecs import Level
from mpstore.errors import ConflictError, DamagedError, MpError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short
from mpstore.pipeline import thread_count
from mpstore.reachability import Marker, Roots, logged_names, mark_statistics, read_roots, whole_table
from mpstore.repository import Repo
from mpstore.store import packindex
from mpstore.store.packindex import IndexTable
from mpstore.store.packset import pack_ids, pack_path
from mpstore.store.repack import repack
from mpstore.store.sessions import SessionInfo, sweep_sessions
from mpstore.store.trash import empty, put_aside, restore_objects, restore_packs

KEEP_REFLOG_NS: Final = 30 * 24 * 3600 * 10**9
_DEAD_SHARE: Final = 0.25  # a pack with more dead bytes than this is rewritten
_SMALL_SHARE: Final = 1 / 8  # of pack_bytes: smaller packs are put together when there are many
_MANY_SMALL_PACKS: Final = 16
_ATTEMPTS: Final = 50


@dataclass(frozen=True)
class GcReport:
    """What a collection did, or with dry_run would do. Bytes are of packs on disk.

    kept_for_deltas_*: objects that only deltas need; kept_by_sessions: labels of running writers (pid, host)
    whose objects stay; foreign: those of another host, which this one cannot know to be alive.
    """

    dry_run: bool
    live_objects: int = 0
    removed_objects: int = 0
    removed_bytes: int = 0
    removed_packs: int = 0
    repacked_objects: int = 0
    repacked_packs: int = 0
    repack_read_bytes: int = 0
    repack_written_bytes: int = 0
    kept_for_deltas_objects: int = 0
    kept_for_deltas_bytes: int = 0
    removed_statistics: int = 0
    removed_reflog_entries: int = 0
    removed_sessions: int = 0
    removed_temporary_files: int = 0
    pack_bytes_before: int = 0
    pack_bytes_after: int = 0
    seconds: float = 0.0
    kept_by_sessions: tuple[str, ...] = ()
    foreign_sessions: tuple[str, ...] = ()
    damaged_packs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Keys of `mp gc --json`."""
        return asdict(self)


@dataclass(frozen=True)
class _Plan:
    """Packs to be removed as they are, packs to be rewritten, and the live rows to be copied from those."""

    removed: tuple[ObjectId, ...]
    rewritten: tuple[ObjectId, ...]
    rows: npt.NDArray[np.int64]
    dead_statistics: tuple[str, ...]
    figures: dict[str, int] = field(default_factory=dict)


def collect(
    repo: Repo,
    *,
    dry_run: bool = False,
    keep_reflog_ns: int = KEEP_REFLOG_NS,
    repack_all: bool = False,
    compression: Level | None = None,
    progress: Progress = silent,
) -> GcReport:
    """Remove what no ref, reflog entry of the last `keep_reflog_ns`, running writer or delta needs.

    repack_all: rewrite every pack that has anything dead, and put small ones together; compression: encode
    all blocks anew at that level where that makes them smaller. DamagedError: a record is lost or damaged, so
    that it cannot be known what it reaches; nothing was removed.
    """
    begun = time.monotonic()
    cutoff_ns = time.time_ns() - keep_reflog_ns
    roots, marker, for_deltas = _marked(repo, cutoff_ns)
    dead_statistics = mark_statistics(repo, marker)
    plan = _plan(repo, marker, roots, dead_statistics, repack_all or compression is not None, compression)
    figures = {
        **plan.figures,
        "kept_for_deltas_objects": len(for_deltas),
        "kept_for_deltas_bytes": int(marker.table.frame_bytes[for_deltas].sum()),
        "removed_reflog_entries": _expire(repo, cutoff_ns, dry_run=True),
    }
    damaged: tuple[str, ...] = ()
    if not dry_run:
        done, damaged = _execute(repo, marker, plan, cutoff_ns, compression, progress)
        figures.update(done)
    return GcReport(
        dry_run=dry_run,
        seconds=round(time.monotonic() - begun, 3),
        damaged_packs=damaged,
        kept_by_sessions=_describe(roots.sessions, foreign=False),
        foreign_sessions=_describe(roots.sessions, foreign=True),
        **figures,
    )


# What is needed


def _marked(repo: Repo, cutoff_ns: int) -> tuple[Roots, Marker, npt.NDArray[np.int64]]:
    """Roots, what they reach, and the rows that only deltas need. What a gc that died has put aside and is
    needed comes back first."""
    for _ in range(_ATTEMPTS):
        roots = read_roots(repo, cutoff_ns)
        marker = Marker(repo, whole_table(repo))
        marker.mark_packs(roots.packs)
        marker.mark_commits(roots.commits)
        known = set(marker.lost)
        marker.mark_commits(roots.pinned_commits)
        marker.mark_plans()
        before = marker.live.copy()
        marker.mark_bases()
        if _bring_back(repo, marker):
            continue
        for one in set(marker.lost) - known:  # a writer pinned what is not there: its own trouble
            del marker.lost[one]
        if _is_settled(repo, marker, roots, cutoff_ns):
            return roots, marker, np.flatnonzero(marker.live & ~before)
    raise ConflictError("refs are being removed faster than gc can follow; nothing was removed")


def _is_settled(repo: Repo, marker: Marker, roots: Roots, cutoff_ns: int) -> bool:
    """False: a record was not found, but packs have moved or roots gone meanwhile: another gc is at work.

    DamagedError: it is lost for good, so that it cannot be known what it names.
    """
    opaque = [lost for lost in marker.lost.values() if lost.opaque]
    if not opaque:
        return True
    known, found = ({info.id for info in table.packs} for table in (marker.table, whole_table(repo)))
    if known != found or roots.commits - read_roots(repo, cutoff_ns).commits:
        return False
    raise DamagedError(
        f"{opaque[0].kind} {short(opaque[0].id)} cannot be read ({opaque[0].reason}), so it is unknown "
        f"what it needs; nothing was removed ({len(opaque)} such records)",
        hint="`mp fsck` names what is damaged and what it touches, `mp fsck --repair` mends what can be",
    )


def _bring_back(repo: Repo, marker: Marker) -> int:
    """Bring packs that hold what was not found back from the trash; how many."""
    lost = b"".join(marker.lost)
    return restore_objects(repo.objects.layout, packindex.as_ids(lost), repo.progress.warn) if lost else 0


def _describe(sessions: Sequence[SessionInfo], foreign: bool) -> tuple[str, ...]:
    here = processes.current().host
    out = []
    for session in sessions:
        identity = processes.parse(os.path.basename(session.path))
        is_foreign = identity is None or identity.host != here
        if is_foreign == foreign:
            age = max(0, time.time_ns() - session.begun_ns) // 10**9 if session.begun_ns else 0
            out.append(f"{session.label} (pid {session.pid} on {session.host}, since {age} s)")
    return tuple(out)


# What is to be done


def _plan(
    repo: Repo,
    marker: Marker,
    roots: Roots,
    dead_statistics: tuple[str, ...],
    eager: bool,
    compression: Level | None,
) -> _Plan:
    table, live = marker.table, marker.live
    removed, rewritten = _choose(repo, marker, roots, eager, compression)
    rows = np.flatnonzero(live & np.isin(table.pack, rewritten))
    gone = [*removed, *rewritten]
    moved_bytes = int(table.frame_bytes[rows].sum())
    gone_bytes = sum(table.packs[number].size_bytes for number in gone)
    total_bytes = sum(info.size_bytes for info in table.packs)
    figures = {
        "live_objects": int(live.sum()),
        "removed_objects": int((~live & np.isin(table.pack, gone)).sum()),
        "removed_bytes": gone_bytes - moved_bytes,
        "removed_packs": len(removed),
        "repacked_packs": len(rewritten),
        "repacked_objects": len(rows),
        "repack_read_bytes": moved_bytes,
        "repack_written_bytes": moved_bytes,
        "removed_statistics": len(dead_statistics),
        "pack_bytes_before": total_bytes,
        "pack_bytes_after": total_bytes - gone_bytes + moved_bytes,
    }
    ids = [info.id for info in table.packs]
    return _Plan(
        tuple(ids[number] for number in removed),
        tuple(ids[number] for number in rewritten),
        rows,
        dead_statistics,
        figures,
    )


def _choose(
    repo: Repo, marker: Marker, roots: Roots, eager: bool, compression: Level | None
) -> tuple[list[int], list[int]]:
    """Packs to be removed as they are, and packs to be rewritten; pinned ones are neither."""
    table, live, count = marker.table, marker.live, len(marker.table.packs)
    live_rows = np.bincount(table.pack[live], minlength=count)
    live_bytes = np.bincount(table.pack[live], weights=table.frame_bytes[live], minlength=count)
    removed, rewritten = [], []
    for number, info in enumerate(table.packs):
        if info.id in roots.packs:
            continue
        if not live_rows[number]:
            removed.append(number)
        elif compression is not None or _is_wasteful(info.size_bytes, live_bytes[number], eager):
            rewritten.append(number)
    rewritten += _small(repo, table, {*removed, *rewritten}, roots, eager)
    return removed, rewritten


def _is_wasteful(size_bytes: int, live_bytes: float, eager: bool) -> bool:
    dead = size_bytes - live_bytes - 8  # the pack's own header
    return bool(dead > 0 if eager else dead > _DEAD_SHARE * size_bytes)


def _small(repo: Repo, table: IndexTable, taken: set[int], roots: Roots, eager: bool) -> Iterator[int]:
    """Packs to put together: when there are many, or eagerly any two of a kind."""
    limit = repo.config.pack_bytes * _SMALL_SHARE
    for kind in {info.kind for info in table.packs}:
        small = [
            number
            for number, info in enumerate(table.packs)
            if info.kind == kind
            and info.size_bytes < limit
            and number not in taken
            and info.id not in roots.packs
        ]
        if len(small) >= (2 if eager else _MANY_SMALL_PACKS):
            yield from small


# Doing it


def _execute(
    repo: Repo,
    marker: Marker,
    plan: _Plan,
    cutoff_ns: int,
    compression: Level | None,
    progress: Progress,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Copy what must move, put packs aside, look again, bring back what is needed after all, remove."""
    layout = repo.objects.layout
    with repo.objects.writer("gc") as writer:
        task = progress.task("repacking", int(marker.table.frame_bytes[plan.rows].sum()), "bytes")
        threads = thread_count(None, repo.config.threads)
        moved = repack(repo.objects, writer, marker.table, plan.rows, compression, task, threads)
        written = writer.finish().stored_bytes
        task.finish()
        for pack_id, reason in moved.damaged.items():
            progress.warn(f"pack {pack_id.hex()} stays, it is damaged: {reason}")
        victims = [one for one in (*plan.removed, *plan.rewritten) if one not in moved.damaged]
        expired = _expire(repo, cutoff_ns, dry_run=False)
        _forget_statistics(repo, plan.dead_statistics)
        _remove_packs(repo, marker, victims, cutoff_ns)
    repo.objects.refresh()
    repo.objects.packs.save_cache(always=True)
    left = pack_ids(layout.packs)
    figures = {
        "repack_read_bytes": moved.read_bytes,
        "repack_written_bytes": written,
        "repacked_objects": moved.copied_objects,
        "removed_packs": len(set(plan.removed) - left),
        "repacked_packs": len(set(plan.rewritten) - left),
        "removed_reflog_entries": expired,
        "removed_sessions": sweep_sessions(layout.sessions),
        "removed_temporary_files": _sweep_temporary(layout.tmp),
        "pack_bytes_after": sum(_size(pack_path(layout.packs, one)) for one in left),
    }
    return figures, tuple(one.hex() for one in moved.damaged)


def _remove_packs(repo: Repo, marker: Marker, victims: Sequence[ObjectId], cutoff_ns: int) -> None:
    layout = repo.objects.layout
    trash = files.staging_name(layout.trash)
    try:
        put_aside(layout, trash, victims)
        _bring_back_needed(repo, marker, cutoff_ns)
        _make_refs_durable(repo)
        empty(trash)
    except BaseException:
        with contextlib.suppress(MpError):  # else reads and the next gc do it
            restore_packs(layout, pack_ids(trash))
        raise


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _expire(repo: Repo, cutoff_ns: int, dry_run: bool) -> int:
    return sum(repo.refs.prune(name, cutoff_ns, dry_run=dry_run) for name in logged_names(repo))


def _forget_statistics(repo: Repo, names: Sequence[str]) -> None:
    """Remove refs of statistics whose manifests go. Whoever makes them anew meanwhile wins."""
    for name in names:
        try:
            ref = repo.refs.read(name)
            if ref is not None:
                repo.refs.move(name, ref.value, None, "gc: a manifest is gone", "")
        except (ConflictError, DamagedError):
            continue


def _bring_back_needed(repo: Repo, marker: Marker, cutoff_ns: int) -> None:
    """Look again what is needed, now that every victim is out of sight, and bring that back.

    Whoever pinned a pack or moved a ref before this is seen here; whoever does so later sees that the pack
    is not there. What was reachable before is looked for as well: another gc may have counted on a copy that
    we have put aside while we counted on the one that it did.
    """
    ids = marker.table.ids(np.flatnonzero(marker.live))
    for _ in range(_ATTEMPTS):
        roots = read_roots(repo, cutoff_ns)
        restore_packs(repo.objects.layout, roots.packs)
        now = marker.fork(whole_table(repo))
        now.mark_ids(ids, "block")
        now.mark_packs(roots.packs)
        now.mark_commits(roots.commits)
        known = set(now.lost)
        now.mark_commits(roots.pinned_commits)
        mark_statistics(repo, now)
        now.mark_bases()
        if _bring_back(repo, now):
            continue
        for one in set(now.lost) - known:
            del now.lost[one]
        if _is_settled(repo, now, roots, cutoff_ns):
            return
    raise ConflictError("refs are being moved faster than gc can follow; nothing was removed")


def _make_refs_durable(repo: Repo) -> None:
    """What is removed next stays removed after a crash, so the refs that allow it must stay moved too."""
    for tree in ("refs", "logs"):
        for directory, _, _ in os.walk(os.path.join(repo.root, tree)):
            files.fsync_directory(directory)
    files.fsync_directory(repo.objects.layout.packs)


def _sweep_temporary(directory: str) -> int:
    """Remove what dead processes left in tmp/; names that tell no process are nobody's after a day."""
    count = 0
    for entry in list(os.scandir(directory)):
        owner = processes.parse(entry.name)
        if owner is None:
            dead = time.time() - entry.stat(follow_symlinks=False).st_mtime > 24 * 3600
        else:
            dead = processes.provably_dead(owner)
        if dead:
            files.remove_tree(entry.path)
            count += 1
    return count
