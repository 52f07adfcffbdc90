"""`merge_words_numpy` compiled: one call a block, all between words and words in the nearest cache.

Relies on numba and the loops of merge_numba and execute_numba. Promises: the same bits as the reference;
releases the interpreter lock; scratch is kept by each thread. A chunk in which an expert changes nothing
costs one comparison: its terms would be zeros, which no sum shows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import merge_words_numpy
from mpstore.kernels.addresses_numba import addresses, words_at
from mpstore.kernels.execute_numba import (
    collect_magnitudes,
    count_magnitudes,
    count_nonfinite,
    difference_f16,
    narrow_bf16,
    narrow_f16,
    widen_bf16,
    widen_f16,
)
from mpstore.kernels.jit import compiled
from mpstore.kernels.merge_numba import (
    _divide,
    _divide_few,
    _elected,
    _finish,
    _grid,
    _tables,
    _weigh,
    _weigh_drawn,
)
from mpstore.kernels.merge_numpy import MAGNITUDE, Terms
from mpstore.kernels.merge_words_numpy import Counts, Search, Sources, Words

U32: TypeAlias = npt.NDArray[np.uint32]
_CHUNK = 512
_TOGETHER = 4  # parts that are added in one pass
_MASK_BITS = 32
_INFINITY = np.uint32(0x7F800000)
_scratch = threading.local()


@compiled
def _minus_bf16(words: Any, base: Any, out: Any) -> Any:
    """`difference_bf16`; the largest pattern of a magnitude."""
    top = np.uint32(0)
    for j in range(words.size):
        value = np.float32(np.uint32(np.uint32(words[j]) << np.uint32(16)).view(np.float32))
        other = np.float32(base[j])
        equal = (value == other) | (value.view(np.uint32) == other.view(np.uint32))
        delta = np.float32(np.float32(0.0) if equal else value - other)
        out[j] = delta
        pattern = np.uint32(delta.view(np.uint32) & MAGNITUDE)
        top = pattern if pattern > top else top
    return top


@compiled
def _weigh_bf16(
    words: Any, base: Any, low: Any, high: Any, scale: Any, weight: Any, part: Any, largest: Any
) -> Any:
    """`_minus_bf16` and `_weigh` in one pass; the largest pattern of a delta's magnitude."""
    top = np.uint32(0)
    for j in range(words.size):
        value = np.float32(np.uint32(np.uint32(words[j]) << np.uint32(16)).view(np.float32))
        other = np.float32(base[j])
        equal = (value == other) | (value.view(np.uint32) == other.view(np.uint32))
        d = np.float32(np.float32(0.0) if equal else value - other)
        magnitude = np.float32(abs(d))
        seen = np.uint32(magnitude.view(np.uint32))
        top = seen if seen > top else top
        dropped = (magnitude < low) | (magnitude > high)
        y = np.float32((np.float32(0.0) if dropped else d) * scale * weight)
        part[j] = y
        pattern = np.uint32(y.view(np.uint32) & MAGNITUDE)
        largest[j] = pattern if pattern > largest[j] else largest[j]
    return top


@compiled
def _top(values: Any) -> Any:
    top = np.uint32(0)
    for j in range(values.size):
        pattern = np.uint32(np.float32(values[j]).view(np.uint32) & MAGNITUDE)
        top = pattern if pattern > top else top
    return top


@compiled
def _delta(words: Any, base: Any, plain: bool, half: bool, out: Any) -> Any:
    """One chunk's deltas; the largest pattern of a magnitude."""
    if not plain and not half:
        return _minus_bf16(words, base, out)
    if not plain:
        difference_f16(words, base, out)
    elif half:
        widen_f16(words, out)
    else:
        widen_bf16(words, out)
    return _top(out)


@compiled
def _widen(words: Any, half: bool, out: Any) -> None:
    if half:
        widen_f16(words, out)
    else:
        widen_bf16(words, out)


@compiled
def _add_four(a: Any, b: Any, c: Any, d: Any, to_grid: Any, total: Any) -> None:
    for j in range(a.size):
        g = to_grid[j]
        left = ((np.float64(a[j]) + g) - g) + ((np.float64(b[j]) + g) - g)
        right = ((np.float64(c[j]) + g) - g) + ((np.float64(d[j]) + g) - g)
        total[j] += left + right


@compiled
def _split_four(a: Any, b: Any, c: Any, d: Any, to_grid: Any, total: Any, plus: Any) -> None:
    for j in range(a.size):
        g = to_grid[j]
        p = (np.float64(a[j]) + g) - g
        q = (np.float64(b[j]) + g) - g
        r = (np.float64(c[j]) + g) - g
        s = (np.float64(d[j]) + g) - g
        total[j] += (p + q) + (r + s)
        left = (p if p > 0 else 0.0) + (q if q > 0 else 0.0)
        plus[j] += left + ((r if r > 0 else 0.0) + (s if s > 0 else 0.0))


@compiled
def _mark_four(a: Any, b: Any, c: Any, d: Any, bits: Any, sign: Any, agree: Any) -> None:
    none = np.uint32(0)
    first, second, third, fourth = bits[0], bits[1], bits[2], bits[3]
    for j in range(a.size):
        s = sign[j]
        left = (first if a[j] * s > 0 else none) | (second if b[j] * s > 0 else none)
        agree[j] |= left | (third if c[j] * s > 0 else none) | (fourth if d[j] * s > 0 else none)


@compiled
def _sums(parts: Any, used: int, bits: Any, elect: bool, room: Any, tables: Any, few: Any) -> None:
    """From `used` weighed parts (a multiple of four) to the merged delta of one chunk."""
    to_grid, total, plus, sign, agree, merged = room
    width = merged.size
    total[:] = 0.0
    if not elect:
        for e in range(0, used, 4):
            a, b, c, d = parts[e], parts[e + 1], parts[e + 2], parts[e + 3]
            _add_four(a[:width], b[:width], c[:width], d[:width], to_grid, total)
        for j in range(width):
            merged[j] = np.float32(total[j])
        return
    plus[:] = 0.0
    for e in range(0, used, 4):
        a, b, c, d = parts[e], parts[e + 1], parts[e + 2], parts[e + 3]
        _split_four(a[:width], b[:width], c[:width], d[:width], to_grid, total, plus)
    _elected(total, plus, merged, sign)
    if tables.shape[0]:
        agree[:] = 0
        for e in range(0, used, 4):
            a, b, c, d = parts[e], parts[e + 1], parts[e + 2], parts[e + 3]
            _mark_four(a[:width], b[:width], c[:width], d[:width], bits[e : e + 4], sign, agree)
        if tables.shape[0] == 1:
            _divide_few(agree, few, merged)
        else:
            _divide(agree, tables, merged)


@compiled
def _weighed(
    word_addresses: Any, at: int, like: Any, base: Any, plain: Any, half: bool, columns: Any, draws: Any,
    random: bool, calm: Any, delta: Any, parts: Any, bits: Any, largest: Any, nonfinite: Any,
) -> Any:  # fmt: skip
    """The weighed parts of one chunk, of all experts that change it, padded to four; how many."""
    weight, scale, low, high = columns
    key, keep, start = draws
    width = base.size
    used = 0
    for e in range(word_addresses.size):
        words = words_at(word_addresses[e] + np.uint64(2 * at), width, like)
        part = parts[used][:width]
        fused = not (random or half or plain[e])
        if fused:
            top = _weigh_bf16(words, base, low[e], high[e], scale[e], weight[e], part, largest)
        else:
            top = _delta(words, base, plain[e], half, delta)
        if top >= _INFINITY:
            if fused:
                _minus_bf16(words, base, delta)
            nonfinite[1 + e] += count_nonfinite(delta)
        elif top == 0 and calm[e]:
            continue
        if fused:
            pass
        elif random:
            first = start + np.uint64(at)
            _weigh_drawn(delta, key[e], keep[e], first, scale[e], weight[e], part, largest)
        else:
            _weigh(delta, low[e], high[e], scale[e], weight[e], part, largest)
        bits[used] = np.uint32(1) << np.uint32(e)
        used += 1
    while used % 4:
        parts[used][:width] = 0
        bits[used] = 0
        used += 1
    return used


@compiled
def _combine(
    base_words: Any, word_addresses: Any, plain: Any, half: bool, columns: Any, draws: Any, calm: Any,
    tables: Any, flags: Any, factors: Any, spare: Any, floats: Any, wide: Any, masks: Any, few: Any, out: Any,
    nonfinite: Any,
) -> None:  # fmt: skip
    random, elect, normalize = flags
    divisor, factor, base_scale = factors
    parts = floats[5:]
    bits = masks[2]
    for at in range(0, base_words.size, _CHUNK):
        width = min(_CHUNK, base_words.size - at)
        base, delta, merged = floats[0][:width], floats[1][:width], floats[2][:width]
        sign, value = floats[3][:width], floats[4][:width]
        largest, agree = masks[0][:width], masks[1][:width]
        own = base_words[at : at + width]
        _widen(own, half, base)
        nonfinite[0] += count_nonfinite(base)
        largest[:] = 0
        used = _weighed(
            word_addresses, at, own, base, plain, half, columns, draws, random, calm, delta, parts, bits,
            largest, nonfinite,
        )  # fmt: skip
        _grid(largest, spare, wide[0][:width])
        room = (wide[0][:width], wide[1][:width], wide[2][:width], sign, agree, merged)
        _sums(parts, used, bits, elect, room, tables, few)
        if normalize and not elect:
            for j in range(width):
                merged[j] /= divisor
        _finish(merged, base, factor, base_scale, value)
        if half:
            narrow_f16(value, base, out[at : at + width])
        else:
            narrow_bf16(value, base, out[at : at + width])


def _room(experts: int) -> Any:
    """This thread's chunks: float32 rows, float64 rows, uint32 rows."""
    rooms = _scratch.__dict__.setdefault("rooms", {})
    rows = -(-experts // _TOGETHER) * _TOGETHER
    if rows not in rooms:
        floats = np.empty((5 + rows, _CHUNK), np.float32)
        rooms[rows] = floats, np.empty((3, _CHUNK), np.float64), np.empty((3, _CHUNK), np.uint32)
    return rooms[rows]


def _check(sources: Sources, *others: Words) -> None:
    for array in (sources.base, *sources.items, *others):  # addresses carry neither dtype nor bounds
        if array.dtype != np.uint16 or array.shape != sources.base.shape or not array.flags.c_contiguous:
            raise ValueError("merge_words takes C-contiguous uint16 arrays of one shape (n,)")


def _derived(terms: Terms) -> Any:
    """Whose unchanged elements are terms of zero, and the sums of weights; kept for the next block."""
    known = getattr(_scratch, "derived", None)
    if known is None or known[0] is not terms:
        tables = _tables(terms)
        few = np.ones(256, np.float32)
        if tables.shape[0]:
            few = np.where(tables[0] == 0.0, 1.0, tables[0]).astype(np.float32)
        calm = np.isfinite(terms.scale) & np.isfinite(terms.weight)
        known = _scratch.derived = terms, (calm, tables, few)
    return known[1]


def combine(sources: Sources, terms: Terms, start: int, out: Words) -> Counts:
    """As the reference."""
    _check(sources, out)
    count = len(sources.items)
    if not 0 < count <= _MASK_BITS:
        return merge_words_numpy.combine(sources, terms, start, out)
    nonfinite = np.zeros(1 + count, np.int64)
    calm, tables, few = _derived(terms)
    floats, wide, masks = _room(count)
    _combine(
        sources.base, addresses(sources.items), sources.plain, sources.half,
        (terms.weight, terms.scale, terms.low, terms.high), (terms.key, terms.keep, np.uint64(start)),
        calm, tables,
        (terms.random, terms.elect, terms.normalize), (terms.divisor, terms.factor, terms.base_scale),
        terms.spare, floats, wide, masks, few, out, nonfinite,
    )  # fmt: skip
    return nonfinite


@compiled
def _search(
    base_words: Any, word_addresses: Any, plain: Any, half: bool, items: Any, lows: Any, highs: Any,
    shifts: Any, counts: Any, sizes: Any, floats: Any, like: Any, room: Any, found: Any,
) -> None:  # fmt: skip
    found[:] = 0
    for at in range(0, base_words.size, _CHUNK):
        width = min(_CHUNK, base_words.size - at)
        base, delta = floats[0][:width], floats[1][:width]
        own = base_words[at : at + width]
        _widen(own, half, base)
        current, top = -1, np.uint32(0)
        for s in range(items.size):
            if items[s] != current:
                current = items[s]
                words = words_at(word_addresses[current] + np.uint64(2 * at), width, own)
                top = _delta(words, base, plain[current], half, delta)
            if np.int64(top) < lows[s]:
                continue
            if counts[s]:
                count_magnitudes(delta, lows[s], shifts[s], words_at(counts[s], sizes[s], like))
            else:
                found[s] += collect_magnitudes(delta, lows[s], highs[s], room[s][found[s] :])


def search(sources: Sources, searches: Sequence[Search]) -> list[U32 | None]:
    """As the reference."""
    _check(sources)
    if not searches or not sources.items:
        return [None] * len(searches)
    found = np.zeros(len(searches), np.int64)
    collects = max((place + 1 for place, one in enumerate(searches) if one.counts is None), default=0)
    room = _collected(collects, sources.base.size)
    counted = [one.counts for one in searches]
    nothing = np.empty(0, np.uint32)
    _search(
        sources.base, addresses(sources.items), sources.plain, sources.half,
        *np.array([[one.item, one.low, one.high, one.shift] for one in searches], np.int64).T.copy(),
        np.array([0 if one is None else addresses([one])[0] for one in counted], np.uint64),
        np.array([0 if one is None else one.size for one in counted], np.int64),
        _room(1)[0], nothing, room, found,
    )  # fmt: skip
    sizes = found.tolist()
    return [room[s, : sizes[s]].copy() if one.counts is None else None for s, one in enumerate(searches)]


def _collected(rows: int, elements: int) -> Any:
    """This thread's room for patterns."""
    room = getattr(_scratch, "patterns", None)
    if room is None or room.shape[0] < rows or room.shape[1] < elements:
        room = _scratch.patterns = np.empty((max(rows, 1), elements), np.uint32)
    return room
