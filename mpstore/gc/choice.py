"""Which packs go, which are rewritten, and what is copied from those: values, with their figures.

Relies on marking and leaning. Promises: nothing is written; pinned packs are left as they are; no pack stays
that holds a delta whose base goes, dead or alive: a writer may find a use for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.gc.leaning import Leaning
from mpstore.gc.marking import Marked
from mpstore.ids import ObjectId
from mpstore.repository import Repo
from mpstore.store.packindex import IndexTable

_DEAD_SHARE: Final = 0.25  # a pack with more dead bytes than this is rewritten
_SMALL_SHARE: Final = 1 / 8  # of pack_bytes: smaller packs are put together when there are many
_MANY_SMALL_PACKS: Final = 16


@dataclass(frozen=True)
class Choice:
    """Packs to be removed as they are, packs to be rewritten, and the live rows to be copied from those.

    encoded_anew: those of the packs that hold bases which go, or blocks that get another base.
    """

    removed: tuple[ObjectId, ...]
    rewritten: tuple[ObjectId, ...]
    rows: npt.NDArray[np.int64]
    encoded_anew: frozenset[ObjectId]
    figures: dict[str, int]


def choose(repo: Repo, marked: Marked, leaning: Leaning, eager: bool, everything: bool) -> Choice:
    """Decide. eager: rewrite what has anything dead; everything: rewrite all that is not pinned."""
    table, live = marked.marker.table, marked.marker.live
    removed, rewritten = _packs(repo, marked, leaning, eager, everything)
    rows = np.flatnonzero(live & np.isin(table.pack, rewritten))
    gone = [*removed, *rewritten]
    read_bytes = int(table.frame_bytes[rows].sum())
    moved_bytes = read_bytes + leaning.growth_bytes
    gone_bytes = sum(table.packs[number].size_bytes for number in gone)
    total_bytes = sum(info.size_bytes for info in table.packs)
    figures = {
        "live_objects": int(live.sum()),
        "removed_objects": int((~live & np.isin(table.pack, gone)).sum()),
        "removed_bytes": gone_bytes - moved_bytes,
        "removed_packs": len(removed),
        "repacked_packs": len(rewritten),
        "repacked_objects": len(rows),
        "repack_read_bytes": read_bytes,
        "repack_written_bytes": moved_bytes,
        "pack_bytes_before": total_bytes,
        "pack_bytes_after": total_bytes - gone_bytes + moved_bytes,
    }
    ids = [info.id for info in table.packs]
    changed = np.unique(table.pack[np.flatnonzero(leaning.changed | leaning.released)])
    return Choice(
        tuple(ids[number] for number in removed),
        tuple(ids[number] for number in rewritten),
        rows,
        frozenset(ids[number] for number in changed.tolist()),
        figures,
    )


def _packs(
    repo: Repo, marked: Marked, leaning: Leaning, eager: bool, everything: bool
) -> tuple[list[int], list[int]]:
    """Packs to be removed as they are, and packs to be rewritten; pinned ones are neither."""
    table, live = marked.marker.table, marked.marker.live
    count = len(table.packs)
    live_rows = np.bincount(table.pack[live], minlength=count)
    live_bytes = np.bincount(table.pack[live], weights=table.frame_bytes[live], minlength=count)
    must = {*_forsaken(table, live), *np.unique(table.pack[leaning.changed]).tolist()}
    removed, rewritten = [], []
    for number, info in enumerate(table.packs):
        if info.id in marked.roots.packs:
            continue
        if not live_rows[number]:
            removed.append(number)
        elif everything or number in must or _is_wasteful(info.size_bytes, live_bytes[number], eager):
            rewritten.append(number)
    rewritten += _small(repo, table, {*removed, *rewritten}, marked, eager)
    return removed, rewritten


def _forsaken(table: IndexTable, live: npt.NDArray[np.bool_]) -> set[int]:
    """Packs with dead deltas whose base does not stay: left alone, these could never be decoded again."""
    found = table.search(table.bases)
    kept = (found >= 0) & live[found]
    based = np.flatnonzero(~live & (table.base_row < len(table.bases)))
    return set(table.pack[based[~kept[table.base_row[based]]]].tolist())


def _is_wasteful(size_bytes: int, live_bytes: float, eager: bool) -> bool:
    dead = size_bytes - live_bytes - 8  # the pack's own header
    return bool(dead > 0 if eager else dead > _DEAD_SHARE * size_bytes)


def _small(repo: Repo, table: IndexTable, taken: set[int], marked: Marked, eager: bool) -> Iterator[int]:
    """Packs to put together: when there are many, or eagerly any two of a kind."""
    limit = repo.config.pack_bytes * _SMALL_SHARE
    for kind in {info.kind for info in table.packs}:
        small = [
            number
            for number, info in enumerate(table.packs)
            if info.kind == kind
            and info.size_bytes < limit
            and number not in taken
            and info.id not in marked.roots.packs
        ]
        if len(small) >= (2 if eager else _MANY_SMALL_PACKS):
            yield from small
