"""A collection from end to end: mark, decide, copy what must move, put aside, look again, remove.

Relies on its neighbours, the store's repack and trash, and refs. Promises: nothing is removed before what
replaces it is durable and the refs that allow it are; an error brings back what was put aside.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mpstore import files, processes
from mpstore.codecs import Level
from mpstore.errors import ConflictError, DamagedError, MpError, StorageError
from mpstore.events import Progress, silent
from mpstore.gc.choice import Choice, choose
from mpstore.gc.hosts import describe, drop_sessions, line
from mpstore.gc.leaning import Leaning, as_stored, give_bases
from mpstore.gc.marking import Marked, bring_back_needed, count_missing, mark
from mpstore.gc.releasing import release_bases
from mpstore.gc.report import GcReport
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.pipeline import thread_count
from mpstore.reachability import logged_names, mark_statistics
from mpstore.repository import Repo
from mpstore.store.layout import pack_ids, pack_path
from mpstore.store.repack import Bases, repack
from mpstore.store.sessions import SessionInfo, read_sessions, sweep_sessions
from mpstore.store.trash import empty, put_aside, restore_packs

KEEP_REFLOG_NS: Final = 30 * 24 * 3600 * 10**9


@dataclass(frozen=True)
class _Plan:
    """What was decided, and from what."""

    marked: Marked
    leaning: Leaning
    choice: Choice
    dead_statistics: tuple[str, ...]
    cutoff_ns: int
    compression: Level | None


def collect(
    repo: Repo,
    *,
    dry_run: bool = False,
    keep_reflog_ns: int = KEEP_REFLOG_NS,
    repack_all: bool = False,
    compression: Level | None = None,
    dropped_sessions: Sequence[str] = (),
    progress: Progress = silent,
) -> GcReport:
    """Remove what no ref, reflog entry of the last `keep_reflog_ns`, running writer or delta needs.

    repack_all: rewrite every pack that has anything dead, put small ones together, and encode deltas anew
    whose base nothing else needs, where that takes less than keeping it; compression: encode all blocks anew
    at that level, with a base where they have none but a parent has one, where that makes them smaller.
    dropped_sessions: hosts or names of sessions that are declared dead first (UsageError: no such session,
    or one of this host that is alive). DamagedError: a record is lost or damaged, so that it cannot be known
    what it reaches; nothing was removed. Lost blocks are a warning: they name nothing that could go.
    """
    begun = time.monotonic()
    cutoff_ns = time.time_ns() - keep_reflog_ns
    dropped = drop_sessions(repo.objects.layout.sessions, dropped_sessions, dry_run)
    dead = tuple(line(one) for one in read_sessions(repo.objects.layout.sessions) if one.dead)
    plan = _plan(repo, cutoff_ns, repack_all, compression, dropped)
    figures = _figures(repo, plan)
    missing = count_missing(repo, plan.marked)
    if missing:
        are = "object in use is" if missing == 1 else "objects in use are"
        progress.warn(f"{missing} {are} missing: `mp fsck` says what is damaged")
    damaged: tuple[str, ...] = ()
    if not dry_run:
        done, damaged = _execute(repo, plan, progress)
        figures.update(done)
    return GcReport(
        dry_run=dry_run,
        seconds=round(time.monotonic() - begun, 3),
        damaged_packs=damaged,
        kept_by_sessions=describe(plan.marked.roots.sessions, foreign=False),
        foreign_sessions=describe(plan.marked.roots.sessions, foreign=True),
        dropped_sessions=tuple(map(line, dropped)),
        dead_sessions=dead,
        **figures,
    )


def _figures(repo: Repo, plan: _Plan) -> dict[str, int]:
    """What the report says before anything is done."""
    for_deltas = plan.marked.for_deltas & plan.marked.marker.live
    return {
        **plan.choice.figures,
        **plan.leaning.figures,
        "kept_for_deltas_objects": int(for_deltas.sum()),
        "kept_for_deltas_bytes": int(plan.marked.marker.table.frame_bytes[for_deltas].sum()),
        "removed_reflog_entries": _expire(repo, plan.cutoff_ns, dry_run=True),
        "removed_statistics": len(plan.dead_statistics),
        "removed_temporary_files": _sweep_temporary(repo.objects.layout.tmp, dry_run=True),
    }


def _plan(
    repo: Repo, cutoff_ns: int, repack_all: bool, compression: Level | None, dropped: Sequence[SessionInfo]
) -> _Plan:
    marked = mark(repo, cutoff_ns, dropped)
    dead_statistics = mark_statistics(repo, marked.marker)
    leaning = as_stored(marked.marker)
    eager = repack_all or compression is not None
    if eager:
        release_bases(repo, marked, leaning, compression)
    if compression is not None:
        give_bases(repo, marked, leaning)
    choice = choose(repo, marked, leaning, eager, compression is not None)
    return _Plan(marked, leaning, choice, dead_statistics, cutoff_ns, compression)


def _execute(repo: Repo, plan: _Plan, progress: Progress) -> tuple[dict[str, int], tuple[str, ...]]:
    """Copy what must move, put packs aside, look again, bring back what is needed after all, remove."""
    layout, table, choice = repo.objects.layout, plan.marked.marker.table, plan.choice
    with repo.objects.writer("gc") as writer:
        task = progress.task("repacking", int(table.frame_bytes[choice.rows].sum()), "bytes")
        threads = thread_count(None, repo.config.threads)
        bases = _bases(plan)
        moved = repack(repo.objects, writer, table, choice.rows, plan.compression, task, threads, bases)
        written = writer.finish().stored_bytes
        task.finish()
        for pack_id, reason in moved.damaged.items():
            progress.warn(f"pack {pack_id.hex()} stays, it is damaged: {reason}")
        stay = set(moved.damaged)
        if stay & choice.encoded_anew:
            stay |= choice.encoded_anew  # a delta in a pack that stays may lean on a base that would go
        victims = [one for one in (*choice.removed, *choice.rewritten) if one not in stay]
        expired = _expire(repo, plan.cutoff_ns, dry_run=False)
        _forget_statistics(repo, plan.dead_statistics)
        _remove_packs(repo, plan, victims)
    repo.objects.refresh()
    repo.objects.packs.save_cache(always=True)
    left = pack_ids(layout.packs)
    figures = {
        "repack_read_bytes": moved.read_bytes,
        "repack_written_bytes": written,
        "repacked_objects": moved.copied_objects,
        "given_bases_objects": moved.given_objects,
        "removed_packs": len(set(choice.removed) - left),
        "repacked_packs": len(set(choice.rewritten) - left),
        "removed_reflog_entries": expired,
        "removed_sessions": sweep_sessions(layout.sessions),
        "removed_temporary_files": _sweep_temporary(layout.tmp),
        "pack_bytes_after": sum(_size(pack_path(layout.packs, one)) for one in left),
    }
    return figures, tuple(one.hex() for one in moved.damaged)


def _bases(plan: _Plan) -> Bases:
    """What the rows that are copied are to lean on."""
    table, rows, leaning = plan.marked.marker.table, plan.choice.rows, plan.leaning
    own = leaning.base[rows]
    ids = np.zeros((len(rows), ID_BYTES), np.uint8)
    ids[own >= 0] = table.ids(own[own >= 0])
    copied = np.zeros(table.rows, np.bool_)
    copied[rows] = True
    packs = [None if row < 0 or copied[row] else table.packs[table.pack[row]].id for row in own.tolist()]
    return Bases(ids, leaning.changed[rows], packs)


def _remove_packs(repo: Repo, plan: _Plan, victims: Sequence[ObjectId]) -> None:
    layout = repo.objects.layout
    trash = files.staging_name(layout.trash)
    encoded_anew: Collection[ObjectId] = plan.choice.encoded_anew.intersection(victims)
    try:
        put_aside(layout, trash, victims)
        bring_back_needed(repo, plan.marked, plan.cutoff_ns, encoded_anew)
        _make_refs_durable(repo)
        empty(trash)
    except BaseException:
        with contextlib.suppress(MpError):  # else reads and the next gc do it
            restore_packs(layout, pack_ids(trash))
        raise


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
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


def _make_refs_durable(repo: Repo) -> None:
    """What is removed next stays removed after a crash, so the refs that allow it must stay moved too."""
    for tree in ("refs", "logs"):
        for directory, _, _ in os.walk(os.path.join(repo.root, tree)):
            try:
                files.fsync_directory(directory)
            except StorageError:
                if os.path.isdir(directory):  # else it went with the last ref in it
                    raise
    files.fsync_directory(repo.objects.layout.packs)


def _sweep_temporary(directory: str, *, dry_run: bool = False) -> int:
    """Remove what dead processes left in tmp/; names that tell no process are nobody's after a day. How many
    there were."""
    if not os.path.isdir(directory):  # it is empty as a rule, and a crash may take it
        return 0
    left_over = [entry.path for entry in os.scandir(directory) if _is_left_over(entry)]
    for path in () if dry_run else left_over:
        files.remove_tree(path)
    return len(left_over)


def _is_left_over(entry: os.DirEntry[str]) -> bool:
    owner = processes.parse(entry.name)
    if owner is not None:
        return processes.provably_dead(owner)
    with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > 24 * 3600
    return False
