"""Stored 16-bit words in, merged words out: `merge` with what comes before and after (numpy reference).

Relies on merge_numpy and execute_numpy. Promises: the bits of widening, subtracting the base, `combine` and
narrowing one after the other; the reference for `merge_words_native`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import execute_numpy, merge_numpy
from mpstore.kernels.merge_numpy import Floats, Terms

Words: TypeAlias = npt.NDArray[np.uint16]
Stored: TypeAlias = npt.NDArray[np.uint16] | npt.NDArray[np.uint8]
Counts: TypeAlias = npt.NDArray[np.int64]


class Sources(NamedTuple):
    """One block as it is stored: n words of float16 where `half`, else of bfloat16, as uint16 or as bytes.

    `items[i]` are expert i's; where `plain[i]` they are the delta itself, else the delta is what `difference`
    makes of them and the base.
    """

    base: Stored
    items: Sequence[Stored]
    plain: npt.NDArray[np.bool_]
    half: bool


def widened(sources: Sources) -> tuple[Floats, list[Floats], Counts]:
    """The base and the deltas in float32, and how many values of each are NaN or infinite."""
    widen = execute_numpy.widen_f16 if sources.half else execute_numpy.widen_bf16
    minus = execute_numpy.difference_f16 if sources.half else execute_numpy.difference_bf16
    base = np.empty(sources.base.nbytes // 2, np.float32)
    widen(sources.base.view(np.uint16), base)
    nonfinite = [execute_numpy.count_nonfinite(base)]
    deltas = []
    for stored, plain in zip(sources.items, sources.plain, strict=True):
        words = stored.view(np.uint16)
        delta = np.empty(words.size, np.float32)
        if plain:
            widen(words, delta)
            nonfinite.append(execute_numpy.count_nonfinite(delta))
        else:
            nonfinite.append(minus(words, base, delta))
        deltas.append(delta)
    return base, deltas, np.array(nonfinite, np.int64)


def combine(sources: Sources, terms: Terms, start: int, out: Words) -> Counts:
    """Fill `out` with the merged words; how many values of the base and of each delta are NaN or infinite.

    `terms` has a row an item; `start` is the offset of the block in its tensor.
    """
    base, deltas, nonfinite = widened(sources)
    merged = np.empty(base.size, np.float32)
    merge_numpy.combine(base, deltas, terms, start, merged)
    narrow = execute_numpy.narrow_f16 if sources.half else execute_numpy.narrow_bf16
    narrow(merged, base, out)
    return nonfinite


class Search(NamedTuple):
    """A pass over one expert's magnitudes: those with low <= pattern(|delta|) < high. Counted into `counts`,
    (pattern - low) >> shift, or, where that is None, collected."""

    item: int
    low: int
    high: int
    shift: int
    counts: Any


def search(sources: Sources, searches: Sequence[Search]) -> list[npt.NDArray[np.uint32] | None]:
    """Run the passes over one block; what was collected, in element order, None where it was counted."""
    _, deltas, _ = widened(sources)
    found: list[npt.NDArray[np.uint32] | None] = []
    for one in searches:
        delta = deltas[one.item]
        if one.counts is None:
            room = np.empty(delta.size, np.uint32)
            size = execute_numpy.collect_magnitudes(delta, one.low, one.high, room)
            found.append(room[:size].copy())
        else:
            execute_numpy.count_magnitudes(delta, one.low, one.shift, one.counts)
            found.append(None)
    return found
