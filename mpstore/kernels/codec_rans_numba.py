"""`codec_rans_numpy` compiled: the same functions, the same bits, 32 states in flight, without the GIL.

Relies on numba, which is why nothing imports this module before work pays for its start-up. Promises:
decoders look at no word past the end plus SLACK zeros, write nowhere but into `out`, and return False when
the words are not what an encoder wrote.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels import rans_tables
from mpstore.kernels.jit import compiled, inlined
from mpstore.kernels.rans_lanes_numba import (
    decoding_table,
    encoding_table,
    narrow_chunk,
    pull_symbols,
    push_raw,
    push_symbols,
    rests_of,
    turns_of,
    wide_chunk,
    widths_of,
)
from mpstore.kernels.rans_plan_numba import change_run, choose_codes, count_tokens, distances, plan_contexts
from mpstore.kernels.rans_planes_numba import count_bytes, join_fine, join_planes, split_fine, split_planes

__all__ = [
    "change_run", "choose_codes", "count_bytes", "count_tokens", "decode_symbols", "decode_tokens",
    "distances", "encode_symbols", "encode_tokens", "frequencies", "join_fine", "join_planes",
    "plan_contexts", "read_tables", "split_fine", "split_planes", "write_tables",
]  # fmt: skip

_U8 = np.uint8
_U16 = np.uint16
_U32 = np.uint32
_U64 = np.uint64
_LOW = np.uint32(1 << 16)
_CHUNK = 128

frequencies = compiled(rans_tables.frequencies)
write_tables = compiled(rans_tables.write_tables)
read_tables = compiled(rans_tables.read_tables)


@compiled
def encode_tokens(
    distance: Any, tokens: Any, keys: Any, coded: Any, low: int, frequency: Any, lanes: int, words: Any
) -> Any:
    """rANS words of the coded chunks, filled in from the end of `words`; the index of the first, -1: no room.

    `frequency` is (contexts, symbols); an element's context is its key less `low`, clipped. What is written
    begins with the states of the lanes, two words each.
    """
    packed, inverse = encoding_table(frequency)
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
        turns = turns_of(largest)
        if turns == 1:
            widths_of(marks, 0, widths)
            rests_of(piece, 0, widths, rests)
        for step in range((marks.size - 1) // lanes * lanes, -1, -lanes):
            active = min(lanes, marks.size - step)
            at = _U64(step)
            for turn in range(turns - 1, -1, -1):
                if turns > 1:
                    widths_of(marks, turn, widths)
                    rests_of(piece, turn, widths, rests)
                position = push_raw(active, at, rests, widths, state, words, position)
            position = push_symbols(active, at, indices, packed, inverse, state, words, position)
    for lane in range(lanes - 1, -1, -1):
        position -= _U64(2)
        words[position] = _U16(state[lane])
        words[position + _U64(1)] = _U16(state[lane] >> _U32(16))
    return np.int64(position)


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
def _first_states(words: Any, lanes: int) -> Any:
    state = np.empty(lanes, np.uint32)
    for lane in range(lanes):
        state[lane] = _U32(words[2 * lane]) | (_U32(words[2 * lane + 1]) << _U32(16))
    return state


@compiled
def _at_rest(state: Any, position: Any, used: int) -> Any:
    """Whether the coder is back where an encoder began: all states at their lowest, all words taken."""
    rest = position == _U64(used)
    for lane in range(state.size):
        rest = rest and state[lane] == _LOW
    return rest


@compiled
def _decode_narrow(
    words: Any, used: int, base: Any, mask: Any, shift: int, lowest: int, frequency: Any, lanes: int,
    coded: Any, sign_magnitude: bool, out: Any,
) -> Any:  # fmt: skip
    """`decode_tokens` for words of up to 16 bits, whose raw bits never take more than one turn."""
    table = decoding_table(frequency)
    state = _first_states(words, lanes)
    position = _U64(2 * lanes)
    marks = np.empty(_CHUNK, np.uint8)
    rows = np.empty(_CHUNK, np.uint32)
    values = np.empty(_CHUNK, np.uint32)
    for chunk in range(coded.size):
        piece = out[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        reference = base[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        if coded[chunk]:
            if position > _U64(used):
                return False
            _rows(reference, mask, shift, lowest, frequency.shape[0], rows)
            position = narrow_chunk(rows, table, marks, values, lanes, state, words, position, piece)
            _add_base(piece, reference, sign_magnitude)
        else:
            for i in range(piece.size):
                piece[i] = reference[i]
    return _at_rest(state, position, used)


@compiled
def _decode_wide(
    words: Any, used: int, base: Any, mask: Any, shift: int, lowest: int, frequency: Any, lanes: int,
    coded: Any, sign_magnitude: bool, out: Any,
) -> Any:  # fmt: skip
    """`decode_tokens` for words of any width."""
    table = decoding_table(frequency)
    state = _first_states(words, lanes)
    position = _U64(2 * lanes)
    marks = np.empty(_CHUNK, np.uint8)
    rows = np.empty(_CHUNK, np.uint32)
    values = np.empty(_CHUNK, np.uint32)
    for chunk in range(coded.size):
        piece = out[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        reference = base[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        if coded[chunk]:
            if position > _U64(used):
                return False
            _rows(reference, mask, shift, lowest, frequency.shape[0], rows)
            position = wide_chunk(rows, table, marks, values, lanes, state, words, position, piece)
            _add_base(piece, reference, sign_magnitude)
        else:
            for i in range(piece.size):
                piece[i] = reference[i]
    return _at_rest(state, position, used)


def decode_tokens(
    words: Any, used: int, base: Any, mask: Any, shift: int, lowest: int, frequency: Any, lanes: int,
    coded: Any, sign_magnitude: bool, out: Any,
) -> bool:  # fmt: skip
    """Fill `out` from `used` rANS words (then SLACK zeros in `words`); chunks not coded are the base's.

    False: these words were not written by `encode_tokens`.
    """
    decoder = _decode_narrow if out.itemsize <= 2 else _decode_wide
    return bool(decoder(words, used, base, mask, shift, lowest, frequency, lanes, coded, sign_magnitude, out))


@compiled
def encode_symbols(symbols: Any, frequency: Any, lanes: int, words: Any) -> Any:
    """rANS words of bytes under one table, as `encode_tokens` without context or raw bits."""
    packed, inverse = encoding_table(frequency)
    state = np.full(lanes, _LOW, np.uint32)
    # a chunk's indices first: a vector that is read right after its items were written waits for them
    indices = np.empty(_CHUNK, np.uint32)
    position = _U64(words.size)
    for start in range((symbols.size - 1) // _CHUNK * _CHUNK, -1, -_CHUNK):
        piece = symbols[start : start + _CHUNK]
        if position < _U64(_CHUNK + 2 * lanes + 1):
            return -1
        for i in range(piece.size):
            indices[i] = piece[i]
        for step in range((piece.size - 1) // lanes * lanes, -1, -lanes):
            active = min(lanes, piece.size - step)
            position = push_symbols(active, _U64(step), indices, packed, inverse, state, words, position)
    for lane in range(lanes - 1, -1, -1):
        position -= _U64(2)
        words[position] = _U16(state[lane])
        words[position + _U64(1)] = _U16(state[lane] >> _U32(16))
    return np.int64(position)


@compiled
def decode_symbols(words: Any, used: int, frequency: Any, lanes: int, out: Any) -> Any:
    """Fill `out` from `used` rANS words (then SLACK zeros); False: `encode_symbols` did not write these."""
    table = decoding_table(frequency)
    rows = np.zeros(lanes, np.uint32)
    state = _first_states(words, lanes)
    position = _U64(2 * lanes)
    for step in range(0, out.size, lanes):
        if position > _U64(used):
            return False
        active = min(lanes, out.size - step)
        position = pull_symbols(active, _U64(0), rows, table, out, _U64(step), state, words, position)
    return _at_rest(state, position, used)
