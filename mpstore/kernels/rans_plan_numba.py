"""The encoder's planning, compiled: distances, tokens, counts, and which contexts they are worth.

Relies on numba; the functions without a word of their own are described in codec_rans_numpy, their reference.
Promises: the same bits as the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels import rans_tables
from mpstore.kernels.jit import compiled, inlined

_U8 = np.uint8
_U32 = np.uint32
_U64 = np.uint64
_CHUNK = 128
_LOGS = rans_tables.LOGS
_EDGES = rans_tables.EDGES


@compiled
def distances(words: Any, base: Any, sign_magnitude: bool, out: Any, nonzero: Any) -> None:
    """Zigzagged distance of `words` from `base` into `out`; `nonzero` (uint8 per chunk) says where any is."""
    kind = words.dtype.type
    last = kind(words.itemsize * 8 - 1)
    one = kind(1)
    top = kind(one << last)
    for chunk in range(nonzero.size):
        start = chunk * _CHUNK
        piece = words[start : start + _CHUNK]
        reference = base[start : start + _CHUNK]
        target = out[start : start + _CHUNK]
        seen = kind(0)
        for i in range(piece.size):
            a = piece[i]
            b = reference[i]
            # to monotone order: negative -> all bits flipped, positive -> the sign flipped
            if sign_magnitude:
                a = a ^ (top | (kind(0) - (a >> last)))
                b = b ^ (top | (kind(0) - (b >> last)))
            d = kind(a - b)
            z = kind(d << one) ^ kind(kind(0) - (d >> last))
            target[i] = z
            seen |= z
        nonzero[chunk] = seen != 0


@compiled
def _tokens_of(piece: Any, marks: Any) -> None:
    """Token of each distance of a chunk."""
    kind = piece.dtype.type
    largest = kind(0)
    for i in range(piece.size):
        largest = max(largest, piece[i])
    for i in range(piece.size):
        marks[i] = _U8(min(piece[i], kind(15)))
    for power in range(4, piece.itemsize * 8):
        if _U64(largest) < (_U64(1) << _U64(power)):
            break
        edge = kind(_U64(1) << _U64(power))
        middle = kind(_U64(3) << _U64(power - 1))
        for i in range(piece.size):
            marks[i] += _U8(piece[i] >= edge) + _U8(piece[i] >= middle)


@compiled
def _count(indices: Any, size: int, tables: Any) -> None:
    """Four tables in turn: equal neighbours (zeros, mostly) would otherwise wait for each other's store."""
    first, second, third, fourth = tables[0], tables[1], tables[2], tables[3]
    whole = size // 4 * 4
    for i in range(0, whole, 4):
        first[indices[i]] += _U32(1)
        second[indices[i + 1]] += _U32(1)
        third[indices[i + 2]] += _U32(1)
        fourth[indices[i + 3]] += _U32(1)
    for i in range(whole, size):
        first[indices[i]] += _U32(1)


@compiled
def count_tokens(
    distance: Any, base: Any, mask: Any, shift: int, lowest: int, coded: Any, tokens: Any, keys: Any,
    counts: Any,
) -> None:  # fmt: skip
    """As the reference."""
    kind = distance.dtype.type
    low, step = kind(lowest), kind(shift)
    high = kind(lowest + counts.shape[0] - 1)
    symbols = _U32(counts.shape[1])
    tables = np.zeros((4, counts.size), np.uint32)
    indices = np.empty(_CHUNK, np.uint32)
    for chunk in range(coded.size):
        if not coded[chunk]:
            continue
        own = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        reference, marks, rows = base[own], tokens[own], keys[own]
        _tokens_of(distance[own], marks)
        for i in range(marks.size):
            key = kind(kind(reference[i] & mask) >> step)
            rows[i] = _U8(kind(min(max(key, low), high) - low))
        for i in range(marks.size):
            indices[i] = _U32(_U32(rows[i]) * symbols) + _U32(marks[i])
        _count(indices, marks.size, tables)
    for row in range(counts.shape[0]):
        for symbol in range(counts.shape[1]):
            at = row * counts.shape[1] + symbol
            counts[row, symbol] += tables[0, at] + tables[1, at] + tables[2, at] + tables[3, at]


@inlined
def _log_sum(count: Any) -> Any:
    """count * log2(count) in 1/65536 bit."""
    if count <= 0:
        return np.int64(0)
    exponent = (np.float64(count).view(np.int64) >> 52) - 1023
    return count * ((exponent << 16) + _LOGS[((count << 8) >> exponent) - 256])


@compiled
def _cost(row: Any) -> Any:
    """What coding a row of counts under a table of its own takes, in 1/65536 bit."""
    total = np.int64(0)
    bits = np.int64(rans_tables.TABLE_COST)
    for symbol in range(row.size):
        count = np.int64(row[symbol])
        if count:
            total += count
            bits += rans_tables.SYMBOL_COST - _log_sum(count)
    return bits + _log_sum(total)


@compiled
def _add_row(together: Any, row: Any) -> None:
    for symbol in range(row.size):
        together[symbol] += np.int64(row[symbol])


@compiled
def plan_contexts(counts: Any, kept: Any) -> Any:
    """As the reference."""
    keys = counts.shape[0]
    low_costs, high_costs = np.zeros(keys, np.int64), np.zeros(keys, np.int64)
    below, above = np.zeros(counts.shape[1], np.int64), np.zeros(counts.shape[1], np.int64)
    alone = np.int64(0)
    low, high = 0, keys - 1
    for key in range(keys):
        _add_row(below, counts[key])
        alone += _cost(counts[key])
        low_costs[key] = _cost(below) - alone
        if key < keys - 1 and low_costs[key] < low_costs[low]:
            low = key
    single = low_costs[keys - 1] + alone
    for key in range(keys - 1, -1, -1):
        _add_row(above, counts[key])
        alone -= _cost(counts[key])
        high_costs[key] = _cost(above) + alone
        if key > low and high_costs[key] <= high_costs[high]:
            high = key
    if keys < 2 or low_costs[low] + high_costs[high] >= single:
        low, high = 0, 0
    for context in range(high - low + 1):
        for symbol in range(counts.shape[1]):
            kept[context, symbol] = 0
    for key in range(keys):
        _add_row(kept[min(max(key, low), high) - low], counts[key])
    return low, high - low + 1


@compiled
def choose_codes(counts: Any, codes: Any) -> None:
    """As the reference."""
    for context in range(counts.shape[0]):
        total = counts[context].sum()
        for symbol in range(counts.shape[1]):
            count = counts[context, symbol]
            code = 0
            if count > 0:
                target = (count << 22) // total
                while code < _EDGES.size and target >= _EDGES[code]:
                    code += 1
                code += 1
            codes[context, symbol] = code
        if total == 0:
            codes[context, 0] = 1


@compiled
def change_run(coded: Any) -> Any:
    """As the reference."""
    run = 0
    for chunk in range(1, coded.size):
        if coded[chunk] != coded[chunk - 1]:
            a, b = chunk, run
            while b:
                a, b = b, a % b
            run = a
    if run or coded.size == 0 or coded[0]:
        return run
    return coded.size
