"""`codec_rans_numpy` compiled: the same functions, the same bits, 32 states in flight, without the GIL.

Relies on numba, which is why nothing imports this module before work pays for its start-up. Promises:
decoders look at no word past the end plus SLACK zeros, write nowhere but into `out`, and return False when
the words are not what an encoder wrote.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels import rans_tables, rans_vectors
from mpstore.kernels.jit import compiled, inlined

_U8 = np.uint8
_U16 = np.uint16
_U32 = np.uint32
_U64 = np.uint64
_LOW = np.uint32(1 << 16)
_SLOTS = np.uint32(4095)
_CHUNK = 128
VECTORS = rans_vectors.PAYS

frequencies = compiled(rans_tables.frequencies)
write_tables = compiled(rans_tables.write_tables)
read_tables = compiled(rans_tables.read_tables)


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
    highest = _U64(counts.shape[0] - 1)
    bits = distance.itemsize * 8
    for chunk in range(coded.size):
        if not coded[chunk]:
            continue
        start = chunk * _CHUNK
        piece = distance[start : start + _CHUNK]
        reference = base[start : start + _CHUNK]
        marks = tokens[start : start + _CHUNK]
        rows = keys[start : start + _CHUNK]
        largest = _U64(0)
        for i in range(piece.size):
            largest = max(largest, _U64(piece[i]))
            marks[i] = _U8(piece[i])
            key = _U64(reference[i] & mask) >> _U64(shift)
            rows[i] = _U8(min(max(key, _U64(lowest)) - _U64(lowest), highest))
        if largest >= _U64(16):
            for i in range(piece.size):
                marks[i] = _U8(min(_U64(piece[i]), _U64(15)))
            for power in range(4, bits):
                if largest < (_U64(1) << _U64(power)):
                    break
                edge = distance.dtype.type(_U64(1) << _U64(power))
                middle = distance.dtype.type(_U64(3) << _U64(power - 1))
                for i in range(piece.size):
                    marks[i] += _U8(piece[i] >= edge) + _U8(piece[i] >= middle)
        for i in range(piece.size):
            counts[rows[i], marks[i]] += _U32(1)


@inlined
def _widths(marks: Any, turn: int, out: Any) -> None:
    """How many raw bits of each token the given turn of 16 moves."""
    done = _U32(16 * turn)
    for i in range(marks.size):
        width = _U32(_U32(_U32(marks[i]) >> _U32(1)) - _U32(5)) if marks[i] >= _U8(16) else _U32(0)
        out[i] = min(_U32(max(width, done) - done), _U32(16))


@inlined
def _rests(piece: Any, turn: int, widths: Any, out: Any) -> None:
    """The raw bits that the given turn of 16 moves."""
    for i in range(piece.size):
        rest = _U32(_U64(piece[i]) >> _U64(16 * turn))
        out[i] = rest & _U32(_U32(_U32(1) << widths[i]) - _U32(1))


@inlined
def _turns(largest: Any) -> Any:
    """How many turns of 16 raw bits the largest token takes."""
    return ((np.int64(largest) >> 1) - 5 + 15) // 16 if largest >= 16 else 0


@compiled
def _encoding_table(frequency: Any) -> Any:
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
def _push_raw(active: Any, at: Any, rests: Any, widths: Any, state: Any, words: Any, position: Any) -> Any:
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
def _push_symbols(
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
def encode_tokens(
    distance: Any, tokens: Any, keys: Any, coded: Any, low: int, frequency: Any, lanes: int, words: Any
) -> Any:
    """rANS words of the coded chunks, filled in from the end of `words`; the index of the first, -1: no room.

    `frequency` is (contexts, symbols); an element's context is its key less `low`, clipped. What is written
    begins with the states of the lanes, two words each.
    """
    packed, inverse = _encoding_table(frequency)
    symbols = _U32(frequency.shape[1])
    highest = _U32(low + frequency.shape[0] - 1)
    lowest = _U32(low)
    state = np.full(lanes, _LOW, np.uint32)
    position = _U64(words.size)
    indices = np.empty(_CHUNK, np.uint32)
    widths = np.empty(_CHUNK, np.uint32)
    rests = np.empty(_CHUNK, np.uint32)
    for chunk in range(coded.size - 1, -1, -1):
        if not coded[chunk]:
            continue
        if position < _U64(5 * _CHUNK + 2 * lanes + 1):
            return -1
        marks = tokens[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        rows = keys[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        piece = distance[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        largest = _U8(0)
        for i in range(marks.size):
            row = _U32(min(max(_U32(rows[i]), lowest), highest) - lowest)
            indices[i] = _U32(row * symbols) + _U32(marks[i])
            largest = max(largest, marks[i])
        turns = _turns(largest)
        if turns == 1:
            _widths(marks, 0, widths)
            _rests(piece, 0, widths, rests)
        for step in range((marks.size - 1) // lanes * lanes, -1, -lanes):
            active = min(lanes, marks.size - step)
            at = _U64(step)
            for turn in range(turns - 1, -1, -1):
                if turns > 1:
                    _widths(marks, turn, widths)
                    _rests(piece, turn, widths, rests)
                position = _push_raw(active, at, rests, widths, state, words, position)
            position = _push_symbols(active, at, indices, packed, inverse, state, words, position)
    for lane in range(lanes - 1, -1, -1):
        position -= _U64(2)
        words[position] = _U16(state[lane])
        words[position + _U64(1)] = _U16(state[lane] >> _U32(16))
    return np.int64(position)


@compiled
def _decoding_table(frequency: Any) -> Any:
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
def _pull_symbols(
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
    for turn in range(_turns(largest)):
        _widths(marks, turn, widths)
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
def _narrow_chunk(
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
        position = _pull_symbols(active, at, rows, table, marks, at, state, words, position)
        if _largest(marks, at, active) >= _U8(16):
            position = _pull_raw(active, at, marks, values, state, words, position)
        else:
            for lane in range(active):
                values[at + _U64(lane)] = marks[at + _U64(lane)]
    for i in range(piece.size):
        piece[i] = values[i]
    return position


@inlined
def _wide_chunk(
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
        position = _pull_symbols(active, at, rows, table, marks, at, state, words, position)
        largest = _largest(marks, at, active)
        here = marks[step : step + active]
        target = piece[step : step + active]
        if largest >= _U8(16):
            position = _pull_long(here, largest, widths, values, target, state, words, position)
        else:
            for lane in range(active):
                target[lane] = here[lane]
    return position


@inlined
def _rows(reference: Any, mask: Any, shift: Any, lowest: Any, contexts: Any, out: Any) -> None:
    """Context << 12 of each base word."""
    kind = reference.dtype.type
    low = kind(lowest)
    high = kind(lowest + contexts - 1)
    for i in range(reference.size):
        key = kind(kind(reference[i] & mask) >> kind(shift))
        out[i] = _U32(kind(min(max(key, low), high) - low)) << _U32(12)


@inlined
def _add_base(piece: Any, reference: Any, sign_magnitude: bool) -> None:
    """Zigzagged distances in `piece` to the words that lie so far from `reference`."""
    kind = piece.dtype.type
    last = kind(piece.itemsize * 8 - 1)
    one = kind(1)
    top = kind(one << last)
    for i in range(piece.size):
        z = piece[i]
        b = reference[i]
        if sign_magnitude:
            b = b ^ (top | (kind(0) - (b >> last)))
        a = kind(kind(kind(z >> one) ^ kind(kind(0) - (z & one))) + b)
        if sign_magnitude:
            a = a ^ (top | kind(kind(a >> last) - one))
        piece[i] = a


@compiled
def decode_tokens(
    words: Any, used: int, base: Any, mask: Any, shift: int, lowest: int, frequency: Any, lanes: int,
    coded: Any, sign_magnitude: bool, out: Any,
) -> Any:  # fmt: skip
    """Fill `out` from `used` rANS words (then SLACK zeros in `words`); chunks not coded are the base's.

    False: these words were not written by `encode_tokens`.
    """
    table = _decoding_table(frequency)
    state = np.empty(lanes, np.uint32)
    for lane in range(lanes):
        state[lane] = _U32(words[2 * lane]) | (_U32(words[2 * lane + 1]) << _U32(16))
    position = _U64(2 * lanes)
    marks = np.empty(_CHUNK, np.uint8)
    rows = np.empty(_CHUNK, np.uint32)
    values = np.empty(_CHUNK, np.uint32)
    for chunk in range(coded.size):
        piece = out[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        reference = base[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        if not coded[chunk]:
            piece[:] = reference
            continue
        if position > _U64(used):
            return False
        _rows(reference, mask, shift, lowest, frequency.shape[0], rows)
        if piece.itemsize <= 2:
            position = _narrow_chunk(rows, table, marks, values, lanes, state, words, position, piece)
        else:
            position = _wide_chunk(rows, table, marks, values, lanes, state, words, position, piece)
        _add_base(piece, reference, sign_magnitude)
    for lane in range(lanes):
        if state[lane] != _LOW:
            return False
    return position == _U64(used)


@compiled
def split_planes(words: Any, rotate: bool, planes: Any) -> None:
    """Words to (word bytes, n) planes, least significant first; a float's sign first moves to the low bit."""
    kind = words.dtype.type
    last = kind(words.itemsize * 8 - 1)
    for index in range(planes.shape[0]):
        plane = planes[index]
        for i in range(words.size):
            word = words[i]
            if rotate:
                word = kind(kind(word << kind(1)) | kind(word >> last))
            plane[i] = _U8(word >> kind(8 * index))


@compiled
def join_planes(planes: Any, rotated: bool, out: Any) -> None:
    """Inverse of `split_planes`."""
    kind = out.dtype.type
    last = kind(out.itemsize * 8 - 1)
    for start in range(0, out.size, 4096):
        piece = out[start : start + 4096]
        for index in range(planes.shape[0]):
            plane = planes[index, start : start + 4096]
            for i in range(piece.size):
                byte = kind(kind(plane[i]) << kind(8 * index))
                piece[i] = byte if index == 0 else kind(piece[i] | byte)
        if rotated:
            for i in range(piece.size):
                piece[i] = kind(kind(piece[i] >> kind(1)) | kind(piece[i] << last))


@compiled
def count_bytes(values: Any, counts: Any) -> None:
    """Add how often each byte value occurs to uint32 `counts` of shape (256,)."""
    other = np.zeros((3, 256), np.uint32)
    whole = values.size // 4 * 4
    for i in range(0, whole, 4):
        counts[values[i]] += _U32(1)
        other[0, values[i + 1]] += _U32(1)
        other[1, values[i + 2]] += _U32(1)
        other[2, values[i + 3]] += _U32(1)
    for i in range(whole, values.size):
        counts[values[i]] += _U32(1)
    for value in range(256):
        counts[value] += other[0, value] + other[1, value] + other[2, value]


@compiled
def encode_symbols(symbols: Any, frequency: Any, lanes: int, words: Any) -> Any:
    """rANS words of bytes under one table, as `encode_tokens` without context or raw bits."""
    packed, inverse = _encoding_table(frequency)
    state = np.full(lanes, _LOW, np.uint32)
    indices = np.empty(lanes, np.uint32)
    position = _U64(words.size)
    for step in range((symbols.size - 1) // lanes * lanes, -1, -lanes):
        if position < _U64(3 * lanes + 1):
            return -1
        active = min(lanes, symbols.size - step)
        for lane in range(active):
            indices[lane] = symbols[step + lane]
        position = _push_symbols(active, _U64(0), indices, packed, inverse, state, words, position)
    for lane in range(lanes - 1, -1, -1):
        position -= _U64(2)
        words[position] = _U16(state[lane])
        words[position + _U64(1)] = _U16(state[lane] >> _U32(16))
    return np.int64(position)


@compiled
def decode_symbols(words: Any, used: int, frequency: Any, lanes: int, out: Any) -> Any:
    """Fill `out` from `used` rANS words (then SLACK zeros); False: `encode_symbols` did not write these."""
    table = _decoding_table(frequency)
    rows = np.zeros(lanes, np.uint32)
    state = np.empty(lanes, np.uint32)
    for lane in range(lanes):
        state[lane] = _U32(words[2 * lane]) | (_U32(words[2 * lane + 1]) << _U32(16))
    position = _U64(2 * lanes)
    for step in range(0, out.size, lanes):
        if position > _U64(used):
            return False
        active = min(lanes, out.size - step)
        position = _pull_symbols(active, _U64(0), rows, table, out, _U64(step), state, words, position)
    for lane in range(lanes):
        if state[lane] != _LOW:
            return False
    return position == _U64(used)
