"""Distances of words to a base by rANS, in numpy: tokens, the contexts they are worth, words, the way back.

Relies on numpy, planes_numpy and codec_rans_numpy. Promises: the bits that docs/codecs.md describes; the
reference for rans_words.c, rans_plan.c and the coders of distances in C, through codec_batch. Element i of a
step belongs to lane i. Per step a decoder takes the symbols of all lanes, then the raw bits of all lanes in
turns of 16.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mpstore.kernels import planes_numpy, rans_tables
from mpstore.kernels.codec_rans_numpy import LOW, emit, refill
from mpstore.kernels.rans_tables import SYMBOL_COST, TABLE_COST

CHUNK: Final = 128  # elements; a chunk whose distances are all zero need not be coded
DIRECT: Final = 16  # tokens below are distances; above, two tokens for each power of two, then raw bits

_ONE: Final = np.uint64(1)


def distances(words: Any, base: Any, sign_magnitude: bool, out: Any, nonzero: Any) -> None:
    """Zigzagged distance of `words` from `base` into `out`; `nonzero` (uint8 per chunk) says where any is."""
    out[:] = planes_numpy.difference(words, base, sign_magnitude)
    nonzero[:] = np.logical_or.reduceat(out != 0, np.arange(0, out.size, CHUNK)) if out.size else 0


def _elements(coded: Any, size: int) -> Any:
    return np.repeat(coded != 0, CHUNK)[:size]


def tokens_of(distance: Any) -> Any:
    """Token of each distance: itself below 16, then two for each power of two."""
    tokens = np.minimum(distance, 15).astype(np.uint8)
    kind = distance.dtype.type
    for power in range(4, distance.dtype.itemsize * 8):
        tokens += distance >= kind(1 << power)
        tokens += distance >= kind(3 << (power - 1))
    return tokens


def raw_widths(tokens: Any) -> Any:
    """How many raw bits follow each token."""
    return np.where(tokens >= DIRECT, (tokens >> 1).astype(np.int64) - 5, 0).astype(np.uint64)


def count_tokens(
    distance: Any,
    base: Any,
    mask: Any,
    shift: int,
    lowest: int,
    coded: Any,
    tokens: Any,
    keys: Any,
    counts: Any,
) -> None:
    """Token of each distance and context key of each base word, where the chunk is `coded`; counts of both.

    A key is (base & mask) >> shift, less `lowest`, clipped to the rows of `counts` (keys, tokens), which
    is added to.
    """
    chosen = _elements(coded, distance.size)
    tokens[chosen] = tokens_of(distance[chosen])
    rows = ((base[chosen] & mask) >> base.dtype.type(shift)).astype(np.int64) - lowest
    keys[chosen] = np.clip(rows, 0, counts.shape[0] - 1)
    flat = keys[chosen].astype(np.int64) * counts.shape[1] + tokens[chosen]
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape).astype(counts.dtype)


def _log_sum(counts: Any) -> Any:
    """Sum over the last axis of count * log2(count), in 1/65536 bit."""
    exponent = np.maximum(np.frexp(counts.astype(np.float64))[1].astype(np.int64) - 1, 0)
    lead = (counts << 8) >> exponent
    logs = np.where(counts > 0, (exponent << 16) + rans_tables.LOGS[np.maximum(lead - 256, 0)], 0)
    return (counts * logs).sum(axis=-1)


def _costs(counts: Any) -> Any:
    """What coding each row (keys, symbols) under a table of its own takes, in 1/65536 bit."""
    used = (counts > 0).sum(axis=1)
    return _log_sum(counts.sum(axis=1)[:, None]) - _log_sum(counts) + TABLE_COST + SYMBOL_COST * used


def plan_contexts(counts: Any, kept: Any) -> tuple[int, int]:
    """Which rows of `counts` (keys, symbols) get a context of their own, so that coding takes fewest bits:
    all up to a first one taken together, single rows, all from a last one on taken together.

    Fills int64 `kept`, as large as `counts`, with the counts of the contexts; (the first row, contexts).
    """
    rows = counts.astype(np.int64)
    below, above = np.cumsum(rows, axis=0), np.cumsum(rows[::-1], axis=0)[::-1]
    alone = np.concatenate([[0], np.cumsum(_costs(rows))])
    low_costs, high_costs = _costs(below) - alone[1:], _costs(above) + alone[:-1]
    kept[0] = below[-1]
    if len(rows) < 2:
        return 0, 1
    low = int(low_costs[:-1].argmin())
    high = low + 1 + int(high_costs[low + 1 :].argmin())
    if low_costs[low] + high_costs[high] >= _costs(below[-1:])[0]:
        return 0, 1
    kept[: high - low + 1] = rows[low : high + 1]
    kept[0], kept[high - low] = below[low], above[high]
    return low, high - low + 1


def change_run(coded: Any) -> int:
    """The longest run of chunks that fits every change of state in `coded`; 0: all chunks are coded."""
    edges = np.flatnonzero(coded[1:] != coded[:-1]) + 1
    if edges.size:
        return int(np.gcd.reduce(edges))
    return 0 if coded.size == 0 or coded[0] else int(coded.size)


def _steps(coded: Any, size: int, lanes: int) -> Any:
    for chunk in np.flatnonzero(coded).tolist():
        end = min(size, (chunk + 1) * CHUNK)
        for start in range(chunk * CHUNK, end, lanes):
            yield slice(start, min(start + lanes, end))


def encode_tokens(
    distance: Any, tokens: Any, keys: Any, coded: Any, low: int, frequency: Any, lanes: int, words: Any
) -> int:
    """rANS words of the coded chunks, filled in from the end of `words`; the index of the first, -1: no room.

    `frequency` is (contexts, symbols); an element's context is its key less `low`, clipped. What is written
    begins with the states of the lanes, two words each.
    """
    starts = (np.cumsum(frequency, axis=1, dtype=np.uint64) - frequency).astype(np.uint64)
    wide = frequency.astype(np.uint64)
    states = np.full(lanes, LOW, np.uint64)
    position = words.size
    chunk = -1
    for step in reversed(list(_steps(coded, distance.size, lanes))):
        if step.start // CHUNK != chunk:
            chunk = step.start // CHUNK
            if position < 5 * CHUNK + 2 * lanes + 1:
                return -1
        marks = tokens[step]
        state = states[: marks.size]
        widths = raw_widths(marks)
        for turn in range(int(widths.max() + 15) // 16 - 1, -1, -1):
            part = np.clip(widths.astype(np.int64) - 16 * turn, 0, 16).astype(np.uint64)
            position = emit(state, (state >> (np.uint64(32) - part)) != 0, words, position)
            rest = (distance[step].astype(np.uint64) >> np.uint64(16 * turn)) & ((_ONE << part) - _ONE)
            state[:] = (state << part) | rest
        rows = np.clip(keys[step].astype(np.int64) - low, 0, frequency.shape[0] - 1)
        share = wide[rows, marks]
        position = emit(state, state >= (share << np.uint64(20)), words, position)
        state[:] = (state // share << np.uint64(12)) + state % share + starts[rows, marks]
    words[position - 2 * lanes : position] = states.astype("<u4").view("<u2")
    return int(position) - 2 * lanes


def decode_tokens(
    words: Any, used: int, base: Any, mask: Any, shift: int, lowest: int, frequency: Any, lanes: int,
    coded: Any, sign_magnitude: bool, out: Any,
) -> bool:  # fmt: skip
    """Fill `out` from `used` rANS words (then SLACK zeros in `words`); chunks not coded are the base's.

    False: these words were not written by `encode_tokens`.
    """
    slot_symbol = np.stack([np.repeat(np.arange(row.size, dtype=np.uint8), row) for row in frequency])
    starts = (np.cumsum(frequency, axis=1, dtype=np.uint64) - frequency).astype(np.uint64)
    states = np.ascontiguousarray(words[: 2 * lanes]).view("<u4").astype(np.uint64)
    position = 2 * lanes
    rows = np.clip(((base & mask) >> base.dtype.type(shift)).astype(np.int64) - lowest, 0, len(frequency) - 1)
    out[:] = 0
    for step in _steps(coded, out.size, lanes):
        if step.start % CHUNK == 0 and position > used:
            return False
        row = rows[step]
        state = states[: row.size]
        slot = state & np.uint64(4095)
        marks = slot_symbol[row, slot]
        state[:] = frequency[row, marks] * (state >> np.uint64(12)) + slot - starts[row, marks]
        position = refill(state, words, position)
        widths = raw_widths(marks)
        value = np.where(
            marks >= DIRECT, (2 | (marks & 1)).astype(np.uint64) << widths, marks.astype(np.uint64)
        )
        for turn in range(int(widths.max() + 15) // 16):
            part = np.clip(widths.astype(np.int64) - 16 * turn, 0, 16).astype(np.uint64)
            value |= (state & ((_ONE << part) - _ONE)) << np.uint64(16 * turn)
            state[:] >>= part
            position = refill(state, words, position)
        out[step] = value
    out[:] = planes_numpy.undifference(out, base, sign_magnitude)
    return position == used and bool((states == LOW).all())
