"""Many ids at once: their rows in a table that is sorted by them, and whether rows are the same.

Relies on numpy. Promises: `find_rows` and `lean_elsewhere` are the reference of `idrows_native`; works in
machine words, and in pieces that stay in a core's cache, since a plan looks up a million blocks. An id has 32
bytes: its prefix, a big-endian number of eight, and its suffix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.uint8]
Keys: TypeAlias = npt.NDArray[np.uint64]
Integers: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.uint32]
Flags: TypeAlias = npt.NDArray[np.bool_]

_PIECE_ROWS: Final = 1 << 14
_MANY: Final = 1 << 11


def prefixes(ids: Ids) -> Keys:
    """uint64[n] of ids uint8[n, 32]."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def find_rows(prefix: Keys, suffix: Ids, groups: Sequence[Ids]) -> Iterator[Integers]:
    """Of each group (n, 32) the first row (n,) with each whole id, -1 where there is none."""
    for ids in groups:
        yield rows_of(prefix, suffix, ids, prefixes(ids))


def find_few(prefix: Keys, suffix: Ids, ids: Ids) -> Integers:
    """`find_rows` of one small group."""
    return rows_of(prefix, suffix, ids, prefixes(ids))


def rows_of(prefix: Keys, suffix: Ids, ids: Ids, keys: Keys) -> Integers:
    """`find_rows` of one group; `keys` are its prefixes."""
    rows = _first_rows(prefix, keys)
    found = np.full(len(rows), -1, np.int64)
    left = np.flatnonzero(rows >= 0)
    rows = rows[left]
    while left.size:  # once, and again only where different ids share eight bytes
        every = len(left) == len(ids)
        same = ~differ(suffix, ids[:, 8:] if every else ids[left, 8:], rows)
        found[left[same]] = rows[same]
        left, rows = left[~same], rows[~same] + 1
        there = rows < len(prefix)
        left, rows = left[there], rows[there]
        there = prefix[rows] == keys[left]
        left, rows = left[there], rows[there]
    return found


def _first_rows(prefix: Keys, keys: Keys) -> Integers:
    """The first row with each prefix, -1 where there is none."""
    found = np.full(len(keys), -1, np.int64)
    if not len(prefix):
        return found
    order = _rising(keys)
    for start in range(0, len(keys), _PIECE_ROWS):
        piece = slice(start, start + _PIECE_ROWS)
        asked = keys[piece] if order is None else keys.take(order[piece])
        rows = prefix.searchsorted(asked)
        rows[prefix.take(rows, mode="clip") != asked] = -1
        found[piece if order is None else order[piece]] = rows
    return found


def _rising(keys: Keys) -> Integers | None:
    """An order in which prefixes (nearly) rise, which makes searching for many of them ten times as fast;
    None: they are few. A sort of plain numbers: the leading digits of a prefix above its index."""
    if len(keys) < _MANY:
        return None
    bits = np.uint64((len(keys) - 1).bit_length())
    numbers = np.sort((keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64))
    numbers &= (np.uint64(1) << bits) - np.uint64(1)
    return numbers.view(np.int64)


def differ(table: Ids, other: Ids, rows: npt.NDArray[Any] | None = None) -> Flags:
    """bool[k]: which of some rows (all) of a table of ids, or of ends of ids, differ from those of another.

    Piece by piece; rows past the end are the last.
    """
    words, others = table.view(np.uint64), other.view(np.uint64)
    out = np.empty(len(others), np.bool_)
    for start in range(0, len(others), _PIECE_ROWS):
        piece = slice(start, start + _PIECE_ROWS)
        apart = words[piece] if rows is None else words.take(rows[piece], axis=0, mode="clip")
        apart = np.bitwise_xor(apart, others[piece], out=None if rows is None else apart)
        first, *rest = apart.T
        for word in rest:
            first = first | word
        out[piece] = first != 0
    return out


def lean_elsewhere(base_row: Numbers, bases: Ids, rows: Integers, own: Ids) -> Flags:
    """(n,): whether the base of a row, `base_row` of `bases` (those past the end are none), is another than
    `own` (n, 32)."""
    numbers = base_row[rows]
    out: Flags = numbers < len(bases)
    if out.any():
        out &= differ(bases, own, numbers)
    return out
