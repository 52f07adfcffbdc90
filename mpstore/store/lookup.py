"""Rows of many ids among several tables, and columns of what lies there.

Relies on packindex. Promises: of several copies one that leans on no base is found; a column is
read when it is asked for, since a plan looks up a million blocks and wants two columns of nine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.ids import ID_BYTES
from mpstore.store import packindex
from mpstore.store.packindex import Ids, IndexTable

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
_MANY: Final = 16  # of so many rows one is asked for: then all of a table's are looked at first


@dataclass(frozen=True)
class Numbered:
    """A table with the store's number of each of its packs (int32)."""

    table: IndexTable
    numbers: npt.NDArray[np.int32]

    @cached_property
    def _whole(self) -> bool:
        """Whether every row is of a pack."""
        return not self.table.rows or int(self.table.pack.max()) < len(self.numbers)

    def search(self, groups: Sequence[Ids]) -> Iterator[Numbers]:
        """int64[n] of each group: the rows of its ids; -1 where there is none, or a damaged one that is of no
        pack."""
        for found in kernels.pick("idrows").find_rows(self.table.prefix, self.table.suffix, groups):
            yield found if self._whole else self._of_a_pack(found)

    def search_few(self, groups: Sequence[Ids]) -> Iterator[Numbers]:
        """The same, in a time that does not grow with the table."""
        for ids in groups:
            yield self._of_a_pack(self.table.search(ids))

    def _of_a_pack(self, found: Numbers) -> Numbers:
        hits = np.flatnonzero(found >= 0)
        found[hits[self.table.pack[found[hits]] >= len(self.numbers)]] = -1
        return found


@dataclass(frozen=True)
class Found:
    """Where n ids lie: `table` int16[n], which of `tables` (-1: in none), `row` int64[n] in it."""

    ids: Ids
    tables: Sequence[Numbered]
    table: npt.NDArray[np.int16]
    row: Numbers

    @cached_property
    def found(self) -> Flags:
        there: Flags = self.table >= 0
        return there

    @cached_property
    def _places(self) -> list[tuple[Numbered, Numbers | slice]]:
        """Each table that has any, and of which of the ids."""
        if len(self.table) and self.found.all() and (self.table == self.table[0]).all():
            return [(self.tables[int(self.table[0])], slice(None))]
        wheres = [np.flatnonzero(self.table == number) for number in range(len(self.tables))]
        return [(one, where) for one, where in zip(self.tables, wheres, strict=True) if where.size]

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of the index, zero where an id is nowhere."""
        out = np.zeros(len(self.row), packindex.column_type(name))
        for numbered, where in self._places:
            out[where] = getattr(numbered.table, name)[self.row[where]]
        return out

    @cached_property
    def based(self) -> Flags:
        """bool[n]: whether the frame leans on a base."""
        out = np.zeros(len(self.row), np.bool_)
        for numbered, where in self._places:
            out[where] = numbered.table.is_based(self.row[where])
        return out

    def base_ids(self, at: Numbers | slice = slice(None)) -> Ids:
        """uint8[k, 32]: the delta bases of some of them, zeros where there is none."""
        rows, tables = self.row[at], self.table[at]
        out = np.zeros((len(rows), ID_BYTES), np.uint8)
        for number, numbered in enumerate(self.tables):
            here = np.flatnonzero(tables == number)
            out[here] = numbered.table.base_ids(rows[here])
        return out

    def leaning_elsewhere(self, own: Ids) -> Flags:
        """bool[n]: which frames lean on a base other than `own` (uint8[n, 32])."""
        out = np.zeros(len(self.row), np.bool_)
        for numbered, where in self._places:
            out[where] = numbered.table.leans_elsewhere(self.row[where], own[where])
        return out


def find(tables: Sequence[Numbered], groups: Sequence[Ids]) -> list[Found]:
    """Where the ids of each group (uint8[n, 32]) lie. Groups are searched together."""
    wanted = sum(len(ids) for ids in groups)
    out = [
        Found(ids, tables, np.full(len(ids), -1, np.int16), np.full(len(ids), -1, np.int64)) for ids in groups
    ]
    for number, numbered in enumerate(tables):
        many = wanted * _MANY >= numbered.table.rows
        for one, rows in zip(out, (numbered.search if many else numbered.search_few)(groups), strict=True):
            _enter(one, number, rows)
    return out


def _enter(out: Found, number: int, rows: Numbers) -> None:
    """Enter what a table has, where nothing is entered or only a frame that leans on a base."""
    if len(rows) and int(rows.min()) >= 0 and int(out.table.max()) < 0:  # all of it is here alone
        out.table[:], out.row[:] = number, rows
        return
    hits = np.flatnonzero(rows >= 0)
    entered = hits[out.table[hits] >= 0]
    if entered.size:
        keep = np.ones(len(rows), np.bool_)
        based = _based_now(out, entered) & ~out.tables[number].table.is_based(rows[entered])
        keep[entered[~based]] = False
        hits = hits[keep[hits]]
    out.table[hits] = number
    out.row[hits] = rows[hits]


def _based_now(out: Found, at: Numbers) -> Flags:
    """Whether what is entered so far leans on a base."""
    based = np.zeros(len(at), np.bool_)
    for number, numbered in enumerate(out.tables):
        here = out.table[at] == number
        based[here] = numbered.table.is_based(out.row[at[here]])
    return based
