"""Whole blocks through the rANS codecs, several a call, so that the interpreter lock is let go of once.

Relies on numba and the kernels of codec_rans_numba, which it strings together as codecs.rans_delta and
codecs.rans_planes do. Promises: the bytes of the codecs block by block; a block that is not for it (None) or
not whole (False) is left to them. Arrays stay where they are: kernels get their addresses, and the arrays
outlive the call. Scratch is a few times a block for each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import extending

from mpstore.kernels.addresses_numba import addresses, words_at
from mpstore.kernels.codec_batch_numpy import DELTA_HEADER_BYTES, LONGEST_RUN, DeltaShape, PlanesShape
from mpstore.kernels.codec_rans_numba import (
    _decode_narrow,
    _decode_wide,
    decode_symbols,
    encode_tokens,
    frequencies,
    read_tables,
    write_tables,
)
from mpstore.kernels.codec_rans_numpy import CHUNK, SLACK
from mpstore.kernels.jit import compiled
from mpstore.kernels.rans_plan_numba import change_run, choose_codes, count_tokens, distances, plan_contexts
from mpstore.kernels.rans_planes_numba import join_planes
from mpstore.kernels.rans_tables import TABLE_BYTES

Bytes: TypeAlias = npt.NDArray[np.uint8]
_U8 = np.uint8
_FEW, _MANY, _MANY_FROM = 4, 32, 8192  # lanes, as codecs.rans_stream has them
_RAW, _RANS = 0, 2  # modes of a plane, as codecs.rans_planes has them
_scratch = threading.local()


@compiled
def _lanes_for(elements: int) -> Any:
    return _MANY if elements >= _MANY_FROM else _FEW


@compiled
def _put_number(out: Any, at: int, value: int, size: int) -> Any:
    for i in range(size):
        out[at + i] = _U8((value >> (8 * i)) & 255)
    return at + size


@compiled
def _copy(source: Any, target: Any) -> None:
    """As target[:] = source, which numba does item by item with a look at every stride."""
    for i in range(source.size):
        target[i] = source[i]


@compiled
def _get_words(data: Any, words: Any) -> Any:
    """Pairs of bytes as words, zeros behind them; how many words."""
    _copy(data, words.view(np.uint8))
    count = data.size // 2
    words[count : count + SLACK] = 0
    return count


@compiled
def _encode_delta(
    words: Any, base: Any, sign_magnitude: bool, mask: Any, shift: int, rows: int, symbols: int,
    room: Any, space: Any, out: Any,
) -> Any:  # fmt: skip
    """The segment of one block into `out`; its bytes, -1 where it does not fit."""
    distance, tokens, keys, coded = room
    size = words.size
    distance, tokens, keys = distance[:size], tokens[:size], keys[:size]
    coded = coded[: (size + CHUNK - 1) // CHUNK]
    distances(words, base, sign_magnitude, distance, coded)
    run = change_run(coded)
    if run > LONGEST_RUN:
        run = 1
    largest = base[0] & mask
    for i in range(size):
        largest = max(largest, base[i] & mask)
    lowest = max(0, np.int64(largest >> base.dtype.type(shift)) - rows + 1)
    counts = np.zeros((rows, symbols), np.uint32)
    count_tokens(distance, base, mask, shift, lowest, coded, tokens, keys, counts)
    kept = np.empty((rows, symbols), np.int64)
    low, contexts = plan_contexts(counts, kept)
    codes = np.empty((contexts, symbols), np.uint8)
    choose_codes(kept[:contexts], codes)
    tables = np.zeros(TABLE_BYTES * contexts, np.uint8)
    table_bytes = (write_tables(codes, tables) + 7) // 8
    frequency = np.zeros((contexts, symbols), np.uint32)
    frequencies(codes, frequency)
    lanes = _lanes_for(size)
    start = encode_tokens(distance, tokens, keys, coded, low, frequency, lanes, space)
    bits = (coded.size + run - 1) // run if run else 0
    total = DELTA_HEADER_BYTES + (bits + 7) // 8 + table_bytes + 2 * (space.size - start)
    if start < 0 or total > out.size:
        return np.int64(-1)
    at = _put_number(out, 0, lanes, 1)
    at = _put_number(out, at, shift, 1)
    at = _put_number(out, at, lowest + low, 2)
    at = _put_number(out, at, contexts - 1, 1)
    at = _put_number(out, at, run, 2)
    out[at : at + (bits + 7) // 8] = 0
    for bit in range(bits):
        out[at + bit // 8] |= _U8(_U8(coded[bit * run] != 0) << _U8(bit % 8))
    at += (bits + 7) // 8
    out[at : at + table_bytes] = tables[:table_bytes]
    _copy(space[start:].view(np.uint8), out[at + table_bytes : total])
    return np.int64(total)


@compiled
def _encode_deltas(
    raws: Any, bases: Any, sizes: Any, like: Any, sign_magnitude: bool, mask: Any, shift: int, rows: int,
    symbols: int, room: Any, space: Any, out: Any, lengths: Any,
) -> None:  # fmt: skip
    at = 0
    for k in range(sizes.size):
        words = words_at(raws[k], sizes[k], like)
        base = words_at(bases[k], sizes[k], like)
        limit = sizes[k] * like.itemsize
        lengths[k] = _encode_delta(
            words, base, sign_magnitude, mask, shift, rows, symbols, room, space, out[at : at + limit]
        )
        at += limit


def _decode_tokens(*arguments: Any) -> Any:
    """Chosen by the width of the words, when it is compiled."""
    raise NotImplementedError


@extending.overload(_decode_tokens, jit_options={"nogil": True, "error_model": "numpy"})
def _chosen(
    words: Any, used: Any, base: Any, mask: Any, shift: Any, lowest: Any, frequency: Any, lanes: Any,  # noqa: ARG001
    coded: Any, sign_magnitude: Any, out: Any,  # noqa: ARG001
) -> Any:  # fmt: skip
    decoder = _decode_narrow if out.dtype.bitwidth <= 16 else _decode_wide

    def decode(
        words: Any, used: Any, base: Any, mask: Any, shift: Any, lowest: Any, frequency: Any, lanes: Any,
        coded: Any, sign_magnitude: Any, out: Any,
    ) -> Any:  # fmt: skip
        return decoder(words, used, base, mask, shift, lowest, frequency, lanes, coded, sign_magnitude, out)

    return decode


@compiled
def _decode_delta(
    data: Any, base: Any, sign_magnitude: bool, mask: Any, symbols: int, room: Any, words: Any, out: Any
) -> Any:
    """One segment to one block; False: it is not whole."""
    if data.size < DELTA_HEADER_BYTES or data.size > out.size * out.itemsize:
        return False
    lanes, shift = np.int64(data[0]), np.int64(data[1])
    lowest = np.int64(data[2]) | (np.int64(data[3]) << 8)
    contexts = np.int64(data[4]) + 1
    run = np.int64(data[5]) | (np.int64(data[6]) << 8)
    if lanes != _FEW and lanes != _MANY:
        return False
    if shift >= 8 * out.itemsize or lowest + contexts - 1 > np.int64(mask >> out.dtype.type(shift)):
        return False
    coded = room[3][: (out.size + CHUNK - 1) // CHUNK]
    at = DELTA_HEADER_BYTES
    if run:
        bits = (coded.size + run - 1) // run
        if data.size - at < (bits + 7) // 8:
            return False
        for chunk in range(coded.size):
            bit = chunk // run
            coded[chunk] = (data[at + bit // 8] >> _U8(bit % 8)) & _U8(1)
        at += (bits + 7) // 8
    else:
        coded[:] = 1
    codes = np.zeros((contexts, symbols), np.uint8)
    bits = read_tables(data[at : min(data.size, at + contexts * TABLE_BYTES)], codes)
    if bits < 0:
        return False
    body = data[at + (bits + 7) // 8 :]
    if body.size % 2 or body.size < 4 * lanes:
        return False
    used = _get_words(body, words)
    frequency = np.zeros((contexts, symbols), np.uint32)
    frequencies(codes, frequency)
    return _decode_tokens(
        words, used, base, mask, shift, lowest, frequency, lanes, coded, sign_magnitude, out
    )


@compiled
def _decode_deltas(
    segments: Any, segment_bytes: Any, bases: Any, outs: Any, sizes: Any, like: Any, sign_magnitude: bool,
    mask: Any, symbols: int, room: Any, words: Any, whole: Any,
) -> None:  # fmt: skip
    for k in range(sizes.size):
        data = words_at(segments[k], segment_bytes[k], room[1])
        base = words_at(bases[k], sizes[k], like)
        out = words_at(outs[k], sizes[k], like)
        whole[k] = _decode_delta(data, base, sign_magnitude, mask, symbols, room, words, out)


@compiled
def _decode_plane(data: Any, words: Any, out: Any) -> Any:
    """One plane; False: it is not whole, or in a mode that is not for here."""
    if data.size == 0:
        return False
    if data[0] == _RAW:
        if data.size != out.size + 1:
            return False
        _copy(data[1:], out)
        return True
    if data[0] != _RANS or data.size < 2 or data.size > out.size:
        return False
    lanes = np.int64(data[1])
    if lanes != _FEW and lanes != _MANY:
        return False
    codes = np.zeros((1, 256), np.uint8)
    bits = read_tables(data[2 : min(data.size, 2 + TABLE_BYTES)], codes)
    if bits < 0:
        return False
    body = data[2 + (bits + 7) // 8 :]
    if body.size % 2 or body.size < 4 * lanes:
        return False
    used = _get_words(body, words)
    frequency = np.zeros((1, 256), np.uint32)
    frequencies(codes, frequency)
    return decode_symbols(words, used, frequency, lanes, out)


@compiled
def _decode_planes(
    segments: Any, segment_bytes: Any, outs: Any, sizes: Any, like: Any, rotated: bool, planes: Any,
    words: Any, whole: Any,
) -> None:  # fmt: skip
    for k in range(sizes.size):
        out = words_at(outs[k], sizes[k], like)
        own = planes[: out.itemsize * sizes[k]].reshape(out.itemsize, sizes[k])
        whole[k] = True
        for index in range(out.itemsize):
            data = words_at(segments[k, index], segment_bytes[k, index], planes)
            whole[k] = whole[k] and _decode_plane(data, words, own[index])
        if whole[k]:
            join_planes(own, rotated, out)


def _room(dtype: npt.DTypeLike, elements: int) -> Any:
    """This thread's scratch for blocks of so many words: (distances, tokens, keys, coded), rANS words."""
    rooms = _scratch.__dict__.setdefault("rooms", {})
    key = np.dtype(dtype).str
    if key not in rooms or rooms[key][0][0].size < elements:
        chunks = -(-elements // CHUNK)
        parts = np.empty(elements, dtype), *(np.empty(n, np.uint8) for n in (elements, elements, chunks))
        raw_bytes = elements * np.dtype(dtype).itemsize
        rooms[key] = parts, np.empty(raw_bytes // 2 + 2048 + SLACK, np.uint16)
    return rooms[key]


def _buffer(size: int) -> Bytes:
    """This thread's bytes to encode into."""
    buffer: Bytes | None = getattr(_scratch, "buffer", None)
    if buffer is None or buffer.size < size:
        buffer = _scratch.buffer = np.empty(size, np.uint8)
    return buffer


def encode_deltas(
    raws: Sequence[Bytes], bases: Sequence[Bytes], shape: DeltaShape
) -> list[memoryview | None]:
    """As the reference."""
    word_bytes = shape.dtype.itemsize
    sizes = np.array([raw.size // word_bytes for raw in raws], np.int64)
    most = int(sizes.max())
    room, words = _room(shape.dtype, most)
    space = words[: most * word_bytes // 2 + 2048]
    out = _buffer(sum(raw.size for raw in raws))
    lengths = np.empty(len(raws), np.int64)
    _encode_deltas(
        addresses(raws), addresses(bases), sizes, np.empty(0, shape.dtype), shape.sign_magnitude,
        shape.dtype.type(shape.mask), shape.shift, shape.rows, shape.symbols, room, space, out, lengths,
    )  # fmt: skip
    made: list[memoryview | None] = []
    at = 0
    for raw, length in zip(raws, lengths.tolist(), strict=True):
        made.append(memoryview(out[at : at + length].tobytes()) if length >= 0 else None)
        at += raw.size
    return made


def decode_deltas(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], shape: DeltaShape
) -> list[bool]:
    """As the reference."""
    sizes = np.array([out.size // shape.dtype.itemsize for out in outs], np.int64)
    room, words = _room(shape.dtype, int(sizes.max()))
    whole = np.zeros(len(outs), np.bool_)
    _decode_deltas(
        addresses(segments), np.array([segment.size for segment in segments], np.int64), addresses(bases),
        addresses(outs), sizes, np.empty(0, shape.dtype), shape.sign_magnitude, shape.dtype.type(shape.mask),
        shape.symbols, room, words, whole,
    )  # fmt: skip
    done: list[bool] = whole.tolist()
    return done


def decode_planes(
    segments: Sequence[Sequence[Bytes]], outs: Sequence[Bytes], shape: PlanesShape
) -> list[bool]:
    """As the reference."""
    word_bytes = shape.dtype.itemsize
    sizes = np.array([out.size // word_bytes for out in outs], np.int64)
    _, words = _room(shape.dtype, int(sizes.max()))
    flat = [plane for planes in segments for plane in planes]
    whole = np.zeros(len(outs), np.bool_)
    _decode_planes(
        addresses(flat).reshape(-1, word_bytes),
        np.array([plane.size for plane in flat], np.int64).reshape(-1, word_bytes),
        addresses(outs), sizes, np.empty(0, shape.dtype), shape.rotated,
        _buffer(int(sizes.max()) * word_bytes), words, whole,
    )  # fmt: skip
    done: list[bool] = whole.tolist()
    return done


@compiled
def _same(left: Any, right: Any, sizes: Any, like: Any) -> Any:
    for k in range(sizes.size):
        a, b = words_at(left[k], sizes[k], like), words_at(right[k], sizes[k], like)
        differs = _U8(0)
        for i in range(a.size):
            differs |= a[i] ^ b[i]
        if differs:
            return False
    return True


def same(left: Sequence[Bytes], right: Sequence[Bytes]) -> bool:
    """As the reference."""
    sizes = np.array([array.size for array in left], np.int64)
    return bool(_same(addresses(left), addresses(right), sizes, np.empty(0, np.uint8)))
