"""Many ids at once: in what order to search for them, and whether rows of them are the same.

Relies on numpy. Promises: pure; works in machine words and in pieces that stay in a core's cache, since a
plan looks up a million blocks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

PIECE_ROWS: Final = 1 << 14
_MANY: Final = 1 << 11


def differ(
    table: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rows: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.bool_]:
    """bool[k]: which of some rows (all) of a table of ids, or of ends of ids, differ from those of another.

    In machine words, and piece by piece so that pieces stay in the cache; rows past the end are the last.
    """
    words, others = table.view(np.uint64), other.view(np.uint64)
    out = np.empty(len(others), np.bool_)
    for start in range(0, len(others), PIECE_ROWS):
        piece = slice(start, start + PIECE_ROWS)
        apart = words[piece] if rows is None else words.take(rows[piece], axis=0, mode="clip")
        apart = np.bitwise_xor(apart, others[piece], out=None if rows is None else apart)
        first, *rest = apart.T
        for word in rest:
            first = first | word
        out[piece] = first != 0
    return out


def rising(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64] | None:
    """An order in which prefixes (nearly) rise, which makes searching for many of them ten times as fast;
    None: they are few. A sort of plain numbers: the leading digits of a prefix above its index."""
    if len(keys) < _MANY:
        return None
    bits = np.uint64((len(keys) - 1).bit_length())
    numbers = np.sort((keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64))
    numbers &= (np.uint64(1) << bits) - np.uint64(1)
    return numbers.view(np.int64)
