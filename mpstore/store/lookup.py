"""Rows of many ids among several tables, and columns of what lies there.

Relies on packindex. Promises: of several copies one that leans on no base is found; a column is
read when it is asked for, since a plan looks up a million blocks and wants two columns of nine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.ids import ID_BYTES
from mpstore.store import packindex
from mpstore.store.idrows import rising
from mpstore.store.packindex import Ids, IndexTable

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Numbered:
    """A table with the store's number of each of its packs (int32)."""

    table: IndexTable
    numbers: npt.NDArray[np.int32]

    def rows(self, rows: Numbers, ids: Ids, keys: npt.NDArray[np.uint64]) -> Numbers:
        """int64[n]: `rows`, the first with each id's prefix (-1: none), as the rows of the ids themselves; -1
        where there is none, or a damaged one that is of no pack."""
        found = self.table.settle(rows, ids, keys)
        hits = np.flatnonzero(found >= 0)
        lost = hits[self.table.pack[found[hits]] >= len(self.numbers)]
        found[lost] = -1
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
    keys = [packindex.prefixes(ids) for ids in groups]
    joined = keys[0] if len(keys) == 1 else np.concatenate([np.zeros(0, np.uint64), *keys])
    order = rising(joined)
    stops = np.cumsum([len(one) for one in keys])
    out = [
        Found(ids, tables, np.full(len(ids), -1, np.int16), np.full(len(ids), -1, np.int64)) for ids in groups
    ]
    for number, numbered in enumerate(tables):
        rows = numbered.table.first_rows(joined, order)
        if not (rows >= 0).any():
            continue
        for one, own, stop in zip(out, keys, stops.tolist(), strict=True):
            _enter(one, number, numbered.rows(rows[stop - len(own) : stop], one.ids, own))
    return out


def _enter(out: Found, number: int, rows: Numbers) -> None:
    """Enter what a table has, where nothing is entered or only a frame that leans on a base."""
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
