"""Bases that only deltas need: whether the store gets smaller when these are encoded anew without them.

Relies on leaning, the store and its frames. Promises: a group (a base and all that leans on it) is weighed by
encoding it, each block in turn; a base is released only where the group gets smaller without it; a group of
which anything is pinned or cannot be read stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mpstore.codecs import Level
from mpstore.errors import DamagedError
from mpstore.gc.leaning import Flags, Leaning, Rows, same_places
from mpstore.gc.marking import Marked
from mpstore.pipeline import thread_count
from mpstore.repository import Repo
from mpstore.store import NO_BASE
from mpstore.store import frame as frames
from mpstore.store.decoding import decode_frame
from mpstore.store.objects import ObjectStore
from mpstore.store.packindex import IndexTable
from mpstore.store.repack import locations

_NEIGHBOURS: Final = 4  # other blocks of the same place that are tried as the new base of a group


@dataclass(frozen=True)
class _Group:
    """base: row of a block that only deltas need; rows: these, the smallest first; beside: blocks of the same
    place that stay and lean on nothing."""

    base: int
    rows: Rows
    beside: tuple[int, ...]


@dataclass
class _Option:
    """What the group would take if it leant on the block at row `base`; `kept`: bool for each of its rows,
    whether it would really lean on it."""

    base: int
    raw: Any
    stored_bytes: int = 0
    kept: list[bool] = field(default_factory=list)

    def add(self, table: IndexTable, row: int, raw: Any, level: Level) -> None:
        base = None if self.base == row else (table.ids([self.base])[0].tobytes(), self.raw)
        header, _ = frames.encode(table.ids([row])[0].tobytes(), raw, int(table.form[row]), base, level)
        self.stored_bytes += header.frame_bytes
        self.kept.append(header.base != NO_BASE)


def release_bases(repo: Repo, marked: Marked, leaning: Leaning, level: Level | None) -> None:
    """Enter the bases that can go and what their deltas lean on then; `marked` has them as dead after it.

    Not while a command runs that has pinned commits: it may count on what it located.
    """
    if marked.roots.pinned_commits or not marked.for_deltas.any():
        return
    table, store = marked.marker.table, repo.objects
    level = level or store.options.level
    groups = list(_groups(repo, marked, leaning))
    task = repo.progress.task("weighing deltas", len(groups), "blocks")
    rebased = growth_bytes = 0
    with ThreadPoolExecutor(thread_count(None, repo.config.threads)) as pool:
        for group, best in zip(
            groups, pool.map(lambda one: _weigh(store, table, one, level), groups), strict=True
        ):
            task.advance(1)
            stored_bytes = int(table.frame_bytes[group.rows].astype(np.int64).sum())
            if best is None or best.stored_bytes >= stored_bytes + int(table.frame_bytes[group.base]):
                continue
            leaning.base[group.rows] = np.where(best.kept, best.base, -1)
            leaning.changed[group.rows] = True
            leaning.released[group.base] = True
            rebased += len(group.rows)
            growth_bytes += best.stored_bytes - stored_bytes
    task.finish()
    marked.marker.live[leaning.released] = False
    leaning.growth_bytes += growth_bytes
    leaning.figures.update(
        released_bases_objects=int(leaning.released.sum()),
        released_bases_bytes=int(table.frame_bytes[leaning.released].astype(np.int64).sum()),
        rebased_objects=rebased,
        rebased_growth_bytes=growth_bytes,
    )


def _groups(repo: Repo, marked: Marked, leaning: Leaning) -> Iterator[_Group]:
    """The groups that may be touched."""
    table, live = marked.marker.table, marked.marker.live
    pinned = np.array([info.id in marked.roots.packs for info in table.packs], np.bool_)
    bases = leaning.base
    rows = np.flatnonzero(live & (bases >= 0))
    rows = rows[marked.for_deltas[bases[rows]] & (bases[bases[rows]] < 0)]
    rows = rows[np.lexsort((table.frame_bytes[rows], bases[rows]))]
    beside = _beside(repo, marked, leaning, rows) if rows.size else {}
    for group in np.split(rows, np.flatnonzero(np.diff(bases[rows])) + 1) if rows.size else []:
        if not pinned[table.pack[group]].any():
            base = int(bases[group[0]])
            yield _Group(base, group, tuple(beside.get(base, ())[:_NEIGHBOURS]))


def _beside(repo: Repo, marked: Marked, leaning: Leaning, leaning_rows: Rows) -> dict[int, list[int]]:
    """For each base that only deltas need: blocks of their places that stay anyway, and lean on nothing."""
    live = marked.marker.live
    stays: Flags = live & ~marked.for_deltas & (leaning.base < 0)
    orphaned = np.zeros(len(live), np.bool_)
    orphaned[leaning_rows] = True
    found: dict[int, list[int]] = {}
    for tensors in same_places(repo, marked.marker).values():
        grid = np.stack(tensors)
        for column in grid[:, orphaned[grid].any(axis=0)].T:
            column = column[column >= 0]
            others = np.unique(column[stays[column]]).tolist()
            for base in np.unique(leaning.base[column[orphaned[column]]]).tolist():
                known = found.setdefault(base, [])
                known += [row for row in others if row not in known]
    return found


def _weigh(store: ObjectStore, table: IndexTable, group: _Group, level: Level) -> _Option | None:
    """The option that takes the fewest bytes; None: the group cannot be read as it was listed."""
    try:
        base_id = table.ids([group.base])[0].tobytes()
        base_raw = store.read(base_id)
        places = locations(store, table, group.rows)
        options: list[_Option] = []
        for i, row in enumerate(group.rows.tolist()):
            frame = next(store.fetch(places, [i]))
            if frame.base != base_id:
                return None  # another gc was here
            raw = decode_frame(frame, base_raw)
            if not options:
                options = [_Option(row, raw), *_nearest(store, table, group.beside, row, raw, level)]
            for option in options:
                option.add(table, row, raw, level)
    except DamagedError:
        return None
    return min(options, key=lambda option: option.stored_bytes)


def _nearest(
    store: ObjectStore, table: IndexTable, beside: Sequence[int], row: int, raw: Any, level: Level
) -> list[_Option]:
    """Of the blocks beside, the one against which `raw` is smallest."""
    tried = []
    for other in beside:
        if table.raw_bytes[other] == table.raw_bytes[row]:
            option = _Option(other, store.read(table.ids([other])[0].tobytes()))
            trial = _Option(other, option.raw)
            trial.add(table, row, raw, level)
            tried.append((trial.stored_bytes, option))
    return [min(tried, key=lambda one: one[0])[1]] if tried else []
