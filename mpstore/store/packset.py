"""The packs of a repository and the tables that say what is in them.

Relies on layout, pack, scanning and packindex. Promises: an index without its pack is never used, a pack
without a good index is (its table is rebuilt in memory, with a warning); tables are immutable, so readers
need no lock; the number of tables to search grows with the logarithm of the number of packs.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore import files
from mpstore.errors import DamagedError, StorageError
from mpstore.ids import ObjectId
from mpstore.store import lookup, packindex
from mpstore.store.layout import CACHE_NAME, INDEX_SUFFIX, Layout, index_path, pack_ids, pack_path
from mpstore.store.locations import Locations, Place, nowhere
from mpstore.store.lookup import Found, Numbered
from mpstore.store.pack import BLOCKS, PackFile
from mpstore.store.packindex import Ids, IndexTable, PackInfo
from mpstore.store.scanning import scan

CACHE_AFTER_PACKS: Final = 64  # as many small indexes as are opened in a few milliseconds

Warn = Callable[[str], None]


class PackSet:
    """What lies in `objects/packs` (or another directory of packs). Loaded when first asked."""

    def __init__(self, layout: Layout, warn: Warn, directory: str | None = None) -> None:
        self.layout = layout
        self.directory = directory or layout.packs
        self._warn = warn
        self._lock = threading.RLock()
        self._numbers: dict[ObjectId, int] = {}
        self.ids: list[ObjectId] = []  # by number; a pack that went away keeps its number
        self._tables: tuple[Numbered, ...] | None = None
        self._present: frozenset[ObjectId] = frozenset()
        self._cached: frozenset[ObjectId] = frozenset()
        self._proved: frozenset[ObjectId] | None = None

    def tables(self) -> tuple[Numbered, ...]:
        """All tables; together they cover every pack that is present."""
        tables = self._tables
        if tables is None:
            self.refresh()
            tables = self._tables
        return tables or ()

    @property
    def present(self) -> frozenset[ObjectId]:
        """The packs that the tables cover."""
        self.tables()
        return self._present

    def refresh(self) -> bool:
        """Look what packs came and went. True: something did."""
        with self._lock:
            changed = False
            seen = None
            while True:
                there = frozenset(pack_ids(self.directory))
                if self._tables is not None and there in (self._present, seen):
                    return changed  # as seen before: a name that leads nowhere
                changed, seen = True, there
                if self._take_in(there):
                    return True

    def _take_in(self, there: frozenset[ObjectId]) -> bool:
        """Load what is new and drop what has gone. False: a pack went away meanwhile (gc moved its objects to
        another one, which may not be among these): look again."""
        tables = [numbered.table for numbered in self._tables or ()]
        if self._tables is None and (cached := self._open_cache()) is not None:
            tables.append(cached)
            self._cached = frozenset(info.id for info in cached.packs)
        covered = {info.id for table in tables for info in table.packs}
        if covered - there:
            tables = [packindex.merge(tables, dropped=covered - there)] if covered & there else []
        whole = True
        for pack_id in sorted(there - covered):
            table = self._load(pack_id)
            if table is None:
                there, whole = there - {pack_id}, False
            else:
                tables.append(table)
        self._set(tables, there)
        return whole

    def add(self, table: IndexTable) -> None:
        """Take in a pack that was just published, without looking at the disk."""
        with self._lock:
            tables = [numbered.table for numbered in self.tables()]
            new = {info.id for info in table.packs}
            if not new & self._present:
                self._set([*tables, table], self._present | new)

    def _set(self, tables: Sequence[IndexTable], present: frozenset[ObjectId]) -> None:
        merged = [packindex.merge(group) if len(group) > 1 else group[0] for group in _tiers(tables)]
        self._tables = tuple(Numbered(table, self._number(table)) for table in merged if table.rows)
        self._present = present

    def _number(self, table: IndexTable) -> npt.NDArray[np.int32]:
        for info in table.packs:
            if info.id not in self._numbers:
                self._numbers[info.id] = len(self.ids)
                self.ids.append(info.id)
        return np.array([self._numbers[info.id] for info in table.packs], np.int32)

    def _load(
        self, pack_id: ObjectId, opener: Callable[[str], IndexTable] = packindex.open_index
    ) -> IndexTable | None:
        try:
            table = opener(index_path(self.directory, pack_id))
            _check_single(table, pack_id)
            return table
        except FileNotFoundError:
            pass  # a crash between publishing the pack and its index: nothing is lost
        except (DamagedError, StorageError) as error:
            self._warn(f"{error.message}: rebuilt in memory; `mp fsck --repair` writes it again")
        return self.rebuild(pack_id)

    def rebuild(self, pack_id: ObjectId) -> IndexTable | None:
        """The table of a pack from the pack itself; empty when it cannot be read, None when it has gone."""
        try:
            return self.scanned(pack_id)
        except FileNotFoundError:
            return None
        except (DamagedError, StorageError) as error:
            self._warn(error.message)
        return packindex.build(PackInfo(pack_id, 0, BLOCKS), ())

    def scanned(self, pack_id: ObjectId) -> IndexTable:
        """The table of what can be made out in a pack. FileNotFoundError: it has gone; DamagedError,
        StorageError: it cannot be read."""
        path = pack_path(self.directory, pack_id)
        pack = PackFile(path)
        found = scan(pack)
        if found.damaged:
            self._warn(f"pack {path}: damaged at {found.damaged[0][0]}; `mp fsck` says what it touches")
        kind = BLOCKS if found.kind is None else found.kind
        return packindex.build(PackInfo(pack_id, pack.size, kind), found.entries)

    def _open_cache(self) -> IndexTable | None:
        if self.directory != self.layout.packs:
            return None
        try:
            table = packindex.open_index(os.path.join(self.layout.cache, CACHE_NAME))
            packindex.check_rows(table)
        except (FileNotFoundError, DamagedError, StorageError):
            return None  # derived: the single indexes have it all
        return table

    def save_cache(self, always: bool = False) -> None:
        """Write the merged table to cache/ when enough packs have come (or, `always`, gone) since. Its loss
        costs time only."""
        with self._lock, contextlib.suppress(StorageError):
            tables = [numbered.table for numbered in self.tables()]
            path = os.path.join(self.layout.cache, CACHE_NAME)
            changed = self._present != self._cached and os.path.exists(path)
            if len(self._present - self._cached) < CACHE_AFTER_PACKS and not (always and changed):
                return
            files.write_whole(path, packindex.to_bytes(packindex.merge(tables)), self.layout.tmp)
            self._cached = self._present

    def prove_indexes(self) -> bool:
        """After a miss that should not be: check every index by its trailer, rebuild those that lie, leave
        the cache aside. False: that was done before, and looking again will not help."""
        with self._lock:
            there = frozenset(pack_ids(self.directory))
            if self._proved == there:
                return False
            loaded = [self._load(pack_id, packindex.verify) for pack_id in sorted(there)]
            tables = [table for table in loaded if table is not None]
            self._set(tables, frozenset(info.id for table in tables for info in table.packs))
            self._cached = frozenset()
            self._proved = there
            return True

    def locate(self, ids: Ids) -> Locations:
        """Where each of the ids (uint8[n, 32]) lies; of several copies one that leans on no base."""
        out = nowhere(ids)
        keys = packindex.search_keys(ids)
        for numbered in self.tables():
            rows = numbered.table.search(ids, keys)
            _fill(out, numbered, rows)
        return out

    def locate_many(self, groups: Sequence[Ids]) -> list[Found]:
        """The same for groups of very many ids, whose columns are read when they are asked for."""
        return lookup.find(self.tables(), groups)

    def known(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """bool[n]: whether each of the ids (uint8[n, 32]) lies in a pack: all that some ask of `locate`."""
        found = np.zeros(len(ids), np.bool_)
        keys = packindex.search_keys(ids)
        for numbered in self.tables():
            found |= numbered.table.search(ids, keys) >= 0
        return found

    def number_of(self, pack_id: ObjectId) -> int:
        """The number of a pack; -1: never seen."""
        return self._numbers.get(pack_id, -1)

    def place(self, object_id: ObjectId) -> Place | None:
        """Where one object lies; of several copies one that leans on no base."""
        best = None
        for numbered in self.tables():
            row = numbered.table.first(object_id)
            if row >= 0 and (place := _place(numbered, row)) is not None:
                if not place.based:
                    return place
                best = best or place
        return best

    def copies(self, object_id: ObjectId) -> list[Place]:
        """Every place where an object lies."""
        number = int.from_bytes(object_id[:8], "big")
        rest = object_id[8:]
        found = [
            _place(numbered, row)
            for numbered in self.tables()
            for row in numbered.table.range_of(number, number)
            if numbered.table.suffix[row].tobytes() == rest
        ]
        return [place for place in found if place is not None]


def _check_single(table: IndexTable, pack_id: ObjectId) -> None:
    if [info.id for info in table.packs] != [pack_id]:
        raise DamagedError(f"index {pack_id.hex()}{INDEX_SUFFIX}: it is of another pack")


def _place(numbered: Numbered, row: int) -> Place | None:
    table = numbered.table
    pack = int(table.pack[row])
    if pack >= len(numbered.numbers):
        return None  # a damaged row
    return Place(
        int(numbered.numbers[pack]),
        int(table.offset[row]),
        int(table.frame_bytes[row]),
        int(table.raw_bytes[row]),
        int(table.codec[row]),
        int(table.form[row]),
        table.base_of(row),
    )


def _fill(out: Locations, numbered: Numbered, rows: npt.NDArray[np.int64]) -> None:
    """Enter what a table has, where nothing is entered or only a frame that leans on a base."""
    table = numbered.table
    hits = np.flatnonzero(rows >= 0)
    if not hits.size:
        return
    hits = hits[table.pack[rows[hits]] < len(numbered.numbers)]
    base_ids = table.base_ids(rows[hits])
    better = ~out.found[hits] | (out.base_ids[hits].any(axis=1) & ~base_ids.any(axis=1))
    hits, base_ids = hits[better], base_ids[better]
    found_rows = rows[hits]
    out.found[hits] = True
    out.pack[hits] = numbered.numbers[table.pack[found_rows]]
    out.base_ids[hits] = base_ids
    for name in ("offset", "frame_bytes", "raw_bytes", "codec", "form"):
        getattr(out, name)[hits] = getattr(table, name)[found_rows]


def _tiers(tables: Sequence[IndexTable]) -> list[list[IndexTable]]:
    """Group tables so that each group is over twice as large as the next: few to search, little merging."""
    groups: list[tuple[int, list[IndexTable]]] = []
    for table in sorted(tables, key=lambda table: -table.rows):
        rows, members = table.rows, [table]
        while groups and groups[-1][0] <= 2 * rows:
            larger_rows, larger = groups.pop()
            rows, members = rows + larger_rows, larger + members
        groups.append((rows, members))
    return [members for _, members in groups]
