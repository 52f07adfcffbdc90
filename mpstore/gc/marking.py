"""What is needed: marked before anything is planned, and looked for again once the victims are out of sight.

Relies on reachability and the trash. Promises: what a gc that died has put aside and is needed comes back; a
record that is lost for good stops the collection, because it cannot be known what it names.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.errors import ConflictError, DamagedError
from mpstore.ids import ObjectId, short
from mpstore.reachability import Marker, Roots, mark_statistics, read_roots, whole_table
from mpstore.repository import Repo
from mpstore.store import packindex
from mpstore.store.packindex import unaccounted_packs
from mpstore.store.sessions import SessionInfo
from mpstore.store.trash import restore_objects, restore_packs

_ATTEMPTS: Final = 50


@dataclass
class Marked:
    """roots and what they reach; for_deltas: bool[rows], what only deltas need."""

    roots: Roots
    marker: Marker
    for_deltas: npt.NDArray[np.bool_]


def mark(repo: Repo, cutoff_ns: int, dropped: Collection[SessionInfo] = ()) -> Marked:
    """Mark what roots reach; `dropped` sessions are none. DamagedError: a record is lost, so it cannot be
    known."""
    for _ in range(_ATTEMPTS):
        roots = read_roots(repo, cutoff_ns, {session.path for session in dropped})
        marker = Marker(repo, whole_table(repo))
        # A pack with bytes that its index says nothing of stays as it is: `fsck --repair` salvages it.
        roots = replace(roots, packs=roots.packs | unaccounted_packs(marker.table))
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
            return Marked(roots, marker, marker.live & ~before)
    raise ConflictError("refs are being removed faster than gc can follow; nothing was removed")


def count_missing(repo: Repo, marked: Marked) -> int:
    """How many objects that roots reach are in no pack. They are looked for again first: another gc may have
    been moving them when they were looked for."""
    lost = b"".join(marked.marker.lost)
    return int((whole_table(repo).search(packindex.as_ids(lost)) < 0).sum()) if lost else 0


def bring_back_needed(repo: Repo, marked: Marked, cutoff_ns: int, encoded_anew: Collection[ObjectId]) -> None:
    """Look again what is needed, now that every victim is out of sight, and bring that back.

    Whoever pinned a pack or moved a ref before this is seen here; whoever does so later sees that the pack
    is not there. What was reachable before is looked for as well: another gc may have counted on a copy that
    we have put aside while we counted on the one that it did. `encoded_anew`: victims of which blocks were
    given another delta base; they come back where a command has begun that may count on the old ones.
    """
    ids = marked.marker.table.ids(np.flatnonzero(marked.marker.live))
    for _ in range(_ATTEMPTS):
        roots = read_roots(repo, cutoff_ns)
        restore_packs(repo.objects.layout, roots.packs)
        if encoded_anew and roots.pinned_commits - marked.roots.pinned_commits:
            restore_packs(repo.objects.layout, encoded_anew)
        now = marked.marker.fork(whole_table(repo))
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
