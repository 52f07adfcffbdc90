"""Rows of very many ids in a table that is sorted by them (numpy reference).

Relies on numpy. Promises: the same rows as `idrows_native`. An id has 32 bytes: its prefix, a big-endian
number of eight, and its suffix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.uint32]
Flags: TypeAlias = npt.NDArray[np.bool_]


def find_rows(prefix: npt.NDArray[np.uint64], suffix: Ids, groups: Sequence[Ids]) -> Iterator[Integers]:
    """Of each group (n, 32) the first row (n,) with each whole id, -1 where there is none."""
    for ids in groups:
        keys = np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
        rows = np.full(len(ids), -1, np.int64)
        order = _nearly_rising(keys)  # searching for neighbours goes ten times as fast
        at = np.empty(len(ids), np.int64)
        at[order] = prefix.searchsorted(keys[order])
        words, ends = suffix.view(np.uint64), np.ascontiguousarray(ids).view(np.uint64)[:, 1:]
        left = np.arange(len(ids))
        while left.size:  # once, and again only where different ids share eight bytes
            left = left[at[left] < len(prefix)]
            left = left[prefix[at[left]] == keys[left]]
            same = ~_differ(words.take(at[left], axis=0), ends.take(left, axis=0))
            rows[left[same]] = at[left[same]]
            left = left[~same]
            at[left] += 1
        yield rows


def _nearly_rising(keys: npt.NDArray[np.uint64]) -> Integers:
    """An order in which they nearly rise: a sort of plain numbers, leading digits above an index."""
    bits = np.uint64(max(len(keys) - 1, 0).bit_length())
    numbers = np.sort((keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64))
    numbers &= (np.uint64(1) << bits) - np.uint64(1)
    return numbers.view(np.int64)


def _differ(some: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> Flags:
    """(n,): which rows of machine words are not the same."""
    apart = some ^ others
    first, *rest = apart.T
    for word in rest:
        first = first | word
    different: Flags = first != 0
    return different


def lean_elsewhere(base_row: Numbers, bases: Ids, rows: Integers, own: Ids) -> Flags:
    """(n,): whether the base of a row, `base_row` of `bases` (those past the end are none), is another than
    `own` (n, 32)."""
    numbers = base_row[rows]
    based = np.flatnonzero(numbers < len(bases))
    out = np.zeros(len(rows), np.bool_)
    words, others = bases.view(np.uint64), np.ascontiguousarray(own).view(np.uint64)
    out[based] = _differ(words.take(numbers[based], axis=0), others.take(based, axis=0))
    return out
