"""`idrows_numpy` in C.

Relies on kernels.native. Promises: the rows of the reference; releases the interpreter lock, but for few ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.kernels import native
from mpstore.kernels.idrows_numpy import Flags, Ids, Integers, Numbers

_MOST_BITS: Final = 24


def find_rows(prefix: npt.NDArray[np.uint64], suffix: Ids, groups: Sequence[Ids]) -> Iterator[Integers]:
    """`idrows_numpy.find_rows`."""
    bits = min(max(len(prefix) - 1, 0).bit_length(), _MOST_BITS)
    starts = np.empty((1 << bits) + 1, np.uint32)
    native.library().fill_starts(prefix, bits, starts)
    for ids in groups:
        rows = np.empty(len(ids), np.int64)
        native.library().find_rows(prefix, suffix, starts, bits, np.ascontiguousarray(ids), rows)
        yield rows


def find_few(prefix: npt.NDArray[np.uint64], suffix: Ids, ids: Ids) -> Integers:
    """`idrows_numpy.find_few`."""
    rows = np.empty(len(ids), np.int64)
    native.library().find_few_rows(prefix, suffix, np.ascontiguousarray(ids), rows)
    return rows


def lean_elsewhere(base_row: Numbers, bases: Ids, rows: Integers, own: Ids) -> Flags:
    """`idrows_numpy.lean_elsewhere`."""
    out = np.empty(len(rows), np.bool_)
    native.library().lean_elsewhere(base_row, bases, rows, own, out)
    return out
