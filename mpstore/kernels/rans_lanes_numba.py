"""The lanes of interleaved rANS, compiled: one step of 32 states (or fewer), forwards and backwards.

Relies on numba and rans_vectors. Promises: a step of 32 lanes is vectorised where the processor is worth it,
with the same bits; functions take and give the position of the next word and check no bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels import rans_vectors
from mpstore.kernels.jit import compiled, inlined

_U8 = np.uint8
_U16 = np.uint16
_U32 = np.uint32
_U64 = np.uint64
_LOW = np.uint32(1 << 16)
_SLOTS = np.uint32(4095)
_CHUNK = 128
VECTORS = rans_vectors.PAYS


@inlined
def widths_of(marks: Any, turn: int, out: Any) -> None:
    """How many raw bits of each token the given turn of 16 moves."""
    done = _U32(16 * turn)
    for i in range(marks.size):
        width = _U32(_U32(_U32(marks[i]) >> _U32(1)) - _U32(5)) if marks[i] >= _U8(16) else _U32(0)
        out[i] = min(_U32(max(width, done) - done), _U32(16))


@inlined
def rests_of(piece: Any, turn: int, widths: Any, out: Any) -> None:
    """The raw bits that the given turn of 16 moves."""
    for i in range(piece.size):
        rest = _U32(_U64(piece[i]) >> _U64(16 * turn))
        out[i] = rest & _U32(_U32(_U32(1) << widths[i]) - _U32(1))


@inlined
def turns_of(largest: Any) -> Any:
    """How many turns of 16 raw bits the largest token takes."""
    return ((np.int64(largest) >> 1) - 5 + 15) // 16 if largest >= 16 else 0


@compiled
def encoding_table(frequency: Any) -> Any:
    """Per (context, symbol), flat: start << 12 | frequency, and the reciprocal of the frequency."""
    packed = np.zeros(frequency.size, np.uint32)
    inverse = np.zeros(frequency.size, np.float64)
    for context in range(frequency.shape[0]):
        total = _U32(0)
        for symbol in range(frequency.shape[1]):
            at = context * frequency.shape[1] + symbol
            count = frequency[context, symbol]
            packed[at] = (total << _U32(12)) | count
            total += count
            if count:
                # a hair too large, so that truncating x * inverse never falls below the quotient
                inverse[at] = (1.0 / count) * (1.0 + 2.0**-49)
    return packed, inverse


@inlined
def push_raw(active: Any, at: Any, rests: Any, widths: Any, state: Any, words: Any, position: Any) -> Any:
    """One turn of one step, last lane first; the new position."""
    if VECTORS and active == 32:
        position -= rans_vectors.push_raw(
            widths, at + _U64(16), rests, at + _U64(16), state, _U64(16), words, position
        )
        return position - rans_vectors.push_raw(widths, at, rests, at, state, _U64(0), words, position)
    for back in range(active):
        lane = _U64(active - 1 - back)
        width = widths[at + lane]
        x = state[lane]
        full = _U32(_U64(x) >> _U64(_U32(32) - width)) != _U32(0)
        words[position - _U64(1)] = _U16(x)
        position -= _U64(full)
        x = _U32(x >> _U32(16)) if full else x
        state[lane] = _U32(x << width) | rests[at + lane]
    return position


@inlined
def push_symbols(
    active: Any, at: Any, indices: Any, packed: Any, inverse: Any, state: Any, words: Any, position: Any
) -> Any:
    """The symbols of one step, last lane first; the new position."""
    if VECTORS and active == 32:
        position -= rans_vectors.push_symbols(
            packed, indices, at + _U64(16), state, _U64(16), words, position
        )
        return position - rans_vectors.push_symbols(packed, indices, at, state, _U64(0), words, position)
    for back in range(active):
        lane = _U64(active - 1 - back)
        index = indices[at + lane]
        entry = packed[index]
        frequency = _U32(entry & _SLOTS)
        x = state[lane]
        full = x >= _U32(frequency << _U32(20))
        words[position - _U64(1)] = _U16(x)
        position -= _U64(full)
        x = _U32(x >> _U32(16)) if full else x
        quotient = _U32(np.float64(x) * inverse[index])
        state[lane] = _U32(x + _U32(_U32(entry >> _U32(12)) + _U32(quotient * _U32(_U32(4096) - frequency))))
    return position


@compiled
def decoding_table(frequency: Any) -> Any:
    """Per context and slot, flat: symbol (8 bits), its frequency (12), the slot's offset in it (12)."""
    table = np.zeros((frequency.shape[0], 4096), np.uint32)
    for context in range(frequency.shape[0]):
        slot = 0
        for symbol in range(frequency.shape[1]):
            count = frequency[context, symbol]
            run = table[context, slot : slot + count]
            for offset in range(run.size):
                run[offset] = _U32(symbol) | _U32(count << _U32(8)) | (_U32(offset) << _U32(20))
            slot += count
    return table.ravel()


@inlined
def pull_symbols(
    active: Any, at: Any, rows: Any, table: Any, marks: Any, to: Any, state: Any, words: Any, position: Any
) -> Any:
    """The symbols of one step into `marks` from `to`; the new position. `rows` is context << 12."""
    if VECTORS and active == 32:
        position += rans_vectors.pull_symbols(table, rows, at, state, _U64(0), words, position, marks, to)
        return position + rans_vectors.pull_symbols(
            table, rows, at + _U64(16), state, _U64(16), words, position, marks, to + _U64(16)
        )
    for i in range(active):
        lane = _U64(i)
        x = state[lane]
        entry = table[_U64(rows[at + lane]) + _U64(x & _SLOTS)]
        marks[to + lane] = _U8(entry)
        x = _U32(_U32(_U32(entry >> _U32(8)) & _SLOTS) * _U32(x >> _U32(12)) + _U32(entry >> _U32(20)))
        refilled = _U32(_U32(x << _U32(16)) | _U32(words[position]))
        short = x < _LOW
        position += _U64(short)
        state[lane] = refilled if short else x
    return position


@inlined
def _pull_raw(active: Any, at: Any, marks: Any, values: Any, state: Any, words: Any, position: Any) -> Any:
    """Values (uint32) of one step's tokens, none of which has more than 16 raw bits; the new position."""
    for i in range(active):
        lane = _U64(i)
        mark = _U32(marks[at + lane])
        width = _U32(_U32(mark >> _U32(1)) - _U32(5)) if mark >= _U32(16) else _U32(0)
        x = state[lane]
        rest = x & _U32(_U32(_U32(1) << width) - _U32(1))
        leading = _U32(_U32(_U32(2) | _U32(mark & _U32(1))) << width)
        values[at + lane] = _U32(leading | rest) if mark >= _U32(16) else mark
        x = _U32(x >> width)
        refilled = _U32(_U32(x << _U32(16)) | _U32(words[position]))
        short = x < _LOW
        position += _U64(short)
        state[lane] = refilled if short else x
    return position


@inlined
def _pull_long(
    marks: Any, largest: Any, widths: Any, rests: Any, target: Any, state: Any, words: Any, position: Any
) -> Any:
    """Distances of one step's tokens, whatever their width, in turns of 16 raw bits; the new position."""
    active = marks.size
    for lane in range(active):
        mark = _U64(marks[lane])
        width = (mark >> _U64(1)) - _U64(5)
        target[lane] = (_U64(2) | (mark & _U64(1))) << width if mark >= _U64(16) else mark
    for turn in range(turns_of(largest)):
        widths_of(marks, turn, widths)
        if VECTORS and active == 32:
            position += rans_vectors.pull_bits(
                widths, _U64(0), rests, _U64(0), state, _U64(0), words, position
            )
            at = _U64(16)
            position += rans_vectors.pull_bits(widths, at, rests, at, state, at, words, position)
        else:
            for i in range(active):
                x = state[i]
                rests[i] = x & _U32(_U32(_U32(1) << widths[i]) - _U32(1))
                x = _U32(x >> widths[i])
                refilled = _U32(_U32(x << _U32(16)) | _U32(words[position]))
                short = x < _LOW
                position += _U64(short)
                state[i] = refilled if short else x
        for lane in range(active):
            target[lane] |= _U64(rests[lane]) << _U64(16 * turn)
    return position


@inlined
def _largest(marks: Any, at: Any, active: Any) -> Any:
    largest = _U8(0)
    for lane in range(active):
        largest = max(largest, marks[at + _U64(lane)])
    return largest


@inlined
def narrow_chunk(
    rows: Any,
    table: Any,
    marks: Any,
    values: Any,
    lanes: int,
    state: Any,
    words: Any,
    position: Any,
    piece: Any,
) -> Any:
    """One chunk of distances of at most 16 bits into `piece`; the new position."""
    if VECTORS and lanes == 32 and piece.size == _CHUNK:
        zero = _U64(0)
        return position + rans_vectors.pull_chunk(
            table, rows, zero, state, zero, words, position, piece, zero
        )
    for step in range(0, piece.size, lanes):
        active = min(lanes, piece.size - step)
        at = _U64(step)
        position = pull_symbols(active, at, rows, table, marks, at, state, words, position)
        if _largest(marks, at, active) >= _U8(16):
            position = _pull_raw(active, at, marks, values, state, words, position)
        else:
            for lane in range(active):
                values[at + _U64(lane)] = marks[at + _U64(lane)]
    for i in range(piece.size):
        piece[i] = values[i]
    return position


@inlined
def wide_chunk(
    rows: Any,
    table: Any,
    marks: Any,
    values: Any,
    lanes: int,
    state: Any,
    words: Any,
    position: Any,
    piece: Any,
) -> Any:
    """One chunk of distances of any width into `piece`; the new position."""
    widths = np.empty(lanes, np.uint32)
    for step in range(0, piece.size, lanes):
        active = min(lanes, piece.size - step)
        at = _U64(step)
        position = pull_symbols(active, at, rows, table, marks, at, state, words, position)
        largest = _largest(marks, at, active)
        here = marks[step : step + active]
        target = piece[step : step + active]
        if largest >= _U8(16):
            position = _pull_long(here, largest, widths, values, target, state, words, position)
        else:
            for lane in range(active):
                target[lane] = here[lane]
    return position
