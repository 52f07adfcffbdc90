"""Interleaved rANS in numpy: the reference for codec_rans_numba, vectorised over the lanes of a step.

Relies on numpy and planes_numpy. Promises: the same bits as the compiled twin, in both directions; takes over
where numba is missing or not worth its start-up (about a hundredth of the compiled speed).

A state is 32 bits in [2^16, 2^32), a word 16 bits, a probability 12 bits. Element i of a step belongs to
lane i. Per step a decoder takes the symbols of all lanes, then the raw bits of all lanes in turns of 16.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mpstore.kernels import planes_numpy, rans_tables
from mpstore.kernels.rans_tables import SYMBOL_COST, TABLE_COST, frequencies, read_tables, write_tables

CHUNK: Final = 128  # elements; a chunk whose distances are all zero need not be coded
DIRECT: Final = 16  # tokens below are distances; above, two tokens for each power of two, then raw bits
SLACK: Final = 5 * CHUNK + 1  # words one chunk can take at most: decoders may look so far past the end

_LOW: Final = np.uint64(1 << 16)
_ONE: Final = np.uint64(1)

__all__ = [
    "change_run", "choose_codes", "count_bytes", "count_tokens", "decode_symbols", "decode_tokens",
    "distances", "encode_symbols", "encode_tokens", "frequencies", "join_fine", "join_planes",
    "plan_contexts", "read_tables", "split_fine", "split_planes", "write_tables",
]  # fmt: skip


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


def choose_codes(counts: Any, codes: Any) -> None:
    """Fill uint8 `codes` with the weight codes nearest to `counts`, both (contexts, symbols); a context that
    does not occur gets its symbol 0."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    nearest = np.searchsorted(rans_tables.EDGES, (counts << 22) // totals, side="right")
    codes[:] = np.where(counts > 0, 1 + nearest, 0)
    codes[codes.max(axis=1) == 0, 0] = 1


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


def _emit(state: Any, full: Any, words: Any, position: int) -> int:
    """Move the low 16 bits of the full lanes in front of `position`; the new position."""
    count = int(np.count_nonzero(full))
    words[position - count : position] = state[full].astype(np.uint16)
    state[full] >>= np.uint64(16)
    return position - count


def encode_tokens(
    distance: Any, tokens: Any, keys: Any, coded: Any, low: int, frequency: Any, lanes: int, words: Any
) -> int:
    """rANS words of the coded chunks, filled in from the end of `words`; the index of the first, -1: no room.

    `frequency` is (contexts, symbols); an element's context is its key less `low`, clipped. What is written
    begins with the states of the lanes, two words each.
    """
    starts = (np.cumsum(frequency, axis=1, dtype=np.uint64) - frequency).astype(np.uint64)
    wide = frequency.astype(np.uint64)
    states = np.full(lanes, _LOW, np.uint64)
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
            position = _emit(state, (state >> (np.uint64(32) - part)) != 0, words, position)
            rest = (distance[step].astype(np.uint64) >> np.uint64(16 * turn)) & ((_ONE << part) - _ONE)
            state[:] = (state << part) | rest
        rows = np.clip(keys[step].astype(np.int64) - low, 0, frequency.shape[0] - 1)
        share = wide[rows, marks]
        position = _emit(state, state >= (share << np.uint64(20)), words, position)
        state[:] = (state // share << np.uint64(12)) + state % share + starts[rows, marks]
    words[position - 2 * lanes : position] = states.astype("<u4").view("<u2")
    return int(position) - 2 * lanes


def _refill(state: Any, words: Any, position: int) -> int:
    short = state < _LOW
    count = int(np.count_nonzero(short))
    state[short] = (state[short] << np.uint64(16)) | words[position : position + count]
    return position + count


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
        position = _refill(state, words, position)
        widths = raw_widths(marks)
        value = np.where(
            marks >= DIRECT, (2 | (marks & 1)).astype(np.uint64) << widths, marks.astype(np.uint64)
        )
        for turn in range(int(widths.max() + 15) // 16):
            part = np.clip(widths.astype(np.int64) - 16 * turn, 0, 16).astype(np.uint64)
            value |= (state & ((_ONE << part) - _ONE)) << np.uint64(16 * turn)
            state[:] >>= part
            position = _refill(state, words, position)
        out[step] = value
    out[:] = planes_numpy.undifference(out, base, sign_magnitude)
    return position == used and bool((states == _LOW).all())


def split_planes(words: Any, rotate: bool, planes: Any) -> None:
    """Words to (word bytes, n) planes, least significant first; a float's sign first moves to the low bit."""
    planes[:] = planes_numpy.split_planes(planes_numpy.rotate_sign(words) if rotate else words)


def join_planes(planes: Any, rotated: bool, out: Any) -> None:
    """Inverse of `split_planes`."""
    words = planes_numpy.join_planes(list(planes), out.dtype.itemsize)
    out[:] = planes_numpy.unrotate_sign(words) if rotated else words


def split_fine(top: Any, below: Any, ranks: Any, symbols: Any, packed: Any) -> None:
    """Two planes of n bytes to symbols (rank of the top byte << 2 | two top bits below) and six-bit rests.

    `packed` is ceil(n / 2) bytes of low nibbles (of element i, and of i + ceil(n / 2) shifted by 4), then
    ceil(n / 4) of bit pairs (of elements i + k ceil(n / 4), shifted by 2 k).
    """
    symbols[:] = (ranks[top] << 2) | (below >> 6)
    half = (top.size + 1) // 2
    packed[:] = 0
    for parts, low, mask, target in ((2, 0, 15, packed[:half]), (4, 4, 3, packed[half:])):
        for part in range(parts):
            piece = below[part * target.size : (part + 1) * target.size]
            target[: piece.size] |= ((piece >> low) & mask) << (8 // parts * part)


def join_fine(symbols: Any, values: Any, packed: Any, top: Any, below: Any) -> None:
    """Inverse of `split_fine`; `values` are the top bytes by rank."""
    top[:] = values[symbols >> 2]
    below[:] = symbols << 6
    half = (top.size + 1) // 2
    for parts, low, mask, source in ((2, 0, 15, packed[:half]), (4, 4, 3, packed[half:])):
        for part in range(parts):
            piece = below[part * source.size : (part + 1) * source.size]
            piece |= ((source[: piece.size] >> (8 // parts * part)) & mask) << low


def count_bytes(values: Any, counts: Any) -> None:
    """Add how often each byte value occurs to uint32 `counts` of shape (256,)."""
    counts += np.bincount(values, minlength=256).astype(np.uint32)


def encode_symbols(symbols: Any, frequency: Any, lanes: int, words: Any) -> int:
    """rANS words of bytes under one table, as `encode_tokens` without context or raw bits."""
    share = frequency[0].astype(np.uint64)
    starts = np.cumsum(share) - share
    states = np.full(lanes, _LOW, np.uint64)
    position = words.size
    for first in range((symbols.size - 1) // lanes * lanes, -1, -lanes):
        if position < 3 * lanes + 1:
            return -1
        marks = symbols[first : first + lanes]
        state = states[: marks.size]
        part = share[marks]
        position = _emit(state, state >= (part << np.uint64(20)), words, position)
        state[:] = (state // part << np.uint64(12)) + state % part + starts[marks]
    words[position - 2 * lanes : position] = states.astype("<u4").view("<u2")
    return int(position - 2 * lanes)


def decode_symbols(words: Any, used: int, frequency: Any, lanes: int, out: Any) -> bool:
    """Fill `out` from `used` rANS words (then SLACK zeros); False: `encode_symbols` did not write these."""
    share = frequency[0].astype(np.uint64)
    starts = np.cumsum(share) - share
    symbol_of = np.repeat(np.arange(256, dtype=np.uint8), frequency[0])
    states = np.ascontiguousarray(words[: 2 * lanes]).view("<u4").astype(np.uint64)
    position = 2 * lanes
    for first in range(0, out.size, lanes):
        if position > used:
            return False
        target = out[first : first + lanes]
        state = states[: target.size]
        slot = state & np.uint64(4095)
        target[:] = symbol_of[slot]
        state[:] = share[target] * (state >> np.uint64(12)) + slot - starts[target]
        position = _refill(state, words, position)
    return position == used and bool((states == _LOW).all())
