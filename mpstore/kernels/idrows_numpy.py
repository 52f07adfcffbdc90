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
        order = np.argsort(keys)  # searching for neighbours goes ten times as fast
        at = np.empty(len(ids), np.int64)
        at[order] = prefix.searchsorted(keys[order])
        left = np.arange(len(ids))
        while left.size:  # once, and again only where different ids share eight bytes
            left = left[at[left] < len(prefix)]
            left = left[prefix[at[left]] == keys[left]]
            same = (suffix[at[left]] == ids[left, 8:]).all(axis=1)
            rows[left[same]] = at[left[same]]
            left = left[~same]
            at[left] += 1
        yield rows


def lean_elsewhere(base_row: Numbers, bases: Ids, rows: Integers, own: Ids) -> Flags:
    """(n,): whether the base of a row, `base_row` of `bases` (those past the end are none), is another than
    `own` (n, 32)."""
    numbers = base_row[rows]
    based = np.flatnonzero(numbers < len(bases))
    out = np.zeros(len(rows), np.bool_)
    out[based] = (bases[numbers[based]] != own[based]).any(axis=1)
    return out
