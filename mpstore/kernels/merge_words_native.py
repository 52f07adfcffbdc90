"""`merge_words_numpy` in C: one call a block, all between words and words in the nearest caches.

Relies on the extension of `kernels.native` and on merge_native for how terms are passed. Promises: the same
bits as the reference; releases the interpreter lock; what is derived from the terms, and the room for what is
collected, is kept by each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import merge_words_numpy, native
from mpstore.kernels.merge_native import MOST_DELTAS, OFFSETS, arguments
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_numpy import Counts, Search, Sources, Words

U32: TypeAlias = npt.NDArray[np.uint32]
_kept = threading.local()


def kept_arguments(terms: Terms) -> tuple[Any, ...]:
    """`arguments`, kept for the next block."""
    known = getattr(_kept, "arguments", None)
    if known is None or known[0] is not terms:
        known = _kept.arguments = terms, arguments(terms)
    found: tuple[Any, ...] = known[1]
    return found


def combine(sources: Sources, terms: Terms, start: int, out: Words) -> Counts:
    """As the reference."""
    if len(sources.items) > MOST_DELTAS:
        return merge_words_numpy.combine(sources, terms, start, out)
    nonfinite = np.empty(1 + len(sources.items), np.int64)
    native.library().words_combine(
        sources.base,
        sources.items,
        sources.plain,
        sources.half,
        *kept_arguments(terms),
        start & OFFSETS,
        out,
        nonfinite,
    )
    return nonfinite


def search(sources: Sources, searches: Sequence[Search]) -> list[U32 | None]:
    """As the reference."""
    numbers, rows, found = _prepared(searches, sources.base.nbytes // 2)
    native.library().words_search(
        sources.base, sources.items, sources.plain, sources.half, numbers, rows, found
    )
    sizes = found.tolist()
    return [
        row[:size].copy() if one.counts is None else None
        for one, row, size in zip(searches, rows, sizes, strict=True)
    ]


def _prepared(searches: Sequence[Search], elements: int) -> tuple[Any, list[U32], Any]:
    """Searches as the compiled side takes them, kept for the next block, and where it says what it found."""
    known = getattr(_kept, "searches", None)
    if known is None or known[0] is not searches or known[1] < elements:
        numbers = [(one.item, one.low, one.high, one.shift, one.counts is not None) for one in searches]
        room = iter(_room(sum(one.counts is None for one in searches), elements))
        rows = [next(room) if one.counts is None else one.counts for one in searches]
        prepared = np.array(numbers, np.int64), rows, np.empty(len(searches), np.int64)
        known = _kept.searches = searches, elements, prepared
    found: tuple[Any, list[U32], Any] = known[2]
    return found


def _room(rows: int, elements: int) -> list[U32]:
    """This thread's rows for patterns."""
    room = getattr(_kept, "room", None)
    if room is None or len(room) < rows or room[0].size < elements:
        room = _kept.room = [np.empty(elements, np.uint32) for _ in range(max(rows, 1))]
    found: list[U32] = room[:rows]
    return found
