"""Several blocks of a codec a call, block by block in numpy; the values that both sides take.

Relies on numpy, rans_distances_numpy and rans_stream. Promises: the bytes of rans-delta in docs/codecs.md;
a segment's word is taken for nothing. Planes are left to their codec, from which numpy has nothing to gain.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import codec_rans_numpy, rans_distances_numpy, rans_stream
from mpstore.kernels.rans_distances_numpy import CHUNK

Bytes: TypeAlias = npt.NDArray[np.uint8]

# lanes, key shift, lowest key, contexts - 1, chunks a map bit (0: no map)
_HEADER: Final = struct.Struct("<BBHBH")
_LONGEST_RUN: Final = 65535
_ROOM_WORDS: Final = 2048  # that an encoder may take beyond the size of its block


@dataclass(frozen=True)
class DeltaShape:
    """Words of a rans-delta block: `mask` and `shift` give a base word's key, of which `rows` are told apart;
    `symbols` are the tokens that distances can have."""

    dtype: np.dtype[Any]
    sign_magnitude: bool
    mask: int
    shift: int
    rows: int
    symbols: int


@dataclass(frozen=True)
class PlanesShape:
    """Words of a rans-planes block; `rotated`: the sign lies in the low bit."""

    dtype: np.dtype[Any]
    rotated: bool


def encode_deltas(
    raws: Sequence[Bytes], bases: Sequence[Bytes], shape: DeltaShape
) -> list[memoryview | None]:
    """The rans-delta segment of each block (of at least one word) against its base of the same size, which
    may be a little larger than the block; None: it would be far larger."""
    return [
        _encode_delta(raw.view(shape.dtype), base.view(shape.dtype), shape)
        for raw, base in zip(raws, bases, strict=True)
    ]


def _encode_delta(words: Any, base: Any, shape: DeltaShape) -> memoryview | None:
    loops, mask = rans_distances_numpy, shape.dtype.type(shape.mask)
    distance = np.empty_like(words)
    coded = np.empty(-(-words.size // CHUNK), np.uint8)
    loops.distances(words, base, shape.sign_magnitude, distance, coded)
    run, bitmap = _change_map(coded)
    tokens, rows = np.empty(words.size, np.uint8), np.empty(words.size, np.uint8)
    counts = np.zeros((shape.rows, shape.symbols), np.uint32)
    lowest = max(0, (int((base & mask).max()) >> shape.shift) - shape.rows + 1)
    loops.count_tokens(distance, base, mask, shape.shift, lowest, coded, tokens, rows, counts)
    kept = np.empty(counts.shape, np.int64)
    low, contexts = loops.plan_contexts(counts, kept)
    tables, frequency = rans_stream.tables_of(kept[:contexts], codec_rans_numpy)
    lanes = rans_stream.lanes_for(words.size)
    space = np.empty(words.nbytes // 2 + _ROOM_WORDS, np.uint16)
    start = loops.encode_tokens(distance, tokens, rows, coded, low, frequency, lanes, space)
    if start < 0:
        return None
    head = _HEADER.pack(lanes, shape.shift, lowest + low, contexts - 1, run)
    return memoryview(b"".join((head, bitmap.tobytes(), tables.tobytes(), space[start:].tobytes())))


def _change_map(coded: Bytes) -> tuple[int, Bytes]:
    """One bit for each run of chunks: whether it holds a change. The run is the longest that fits every
    change of state, so rows of a matrix that were not touched take a bit each. (0, nothing): all changed."""
    run = rans_distances_numpy.change_run(coded)
    run = run if run <= _LONGEST_RUN else 1
    return run, np.packbits(coded[::run], bitorder="little") if run else np.empty(0, np.uint8)


def decode_deltas(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], shape: DeltaShape
) -> list[bool]:
    """Fill `outs` (of at least one word, the base's size) from rans-delta segments; False: one is damaged."""
    return [
        _decode_delta(segment, base.view(shape.dtype), shape, out.view(shape.dtype))
        for segment, base, out in zip(segments, bases, outs, strict=True)
    ]


def _decode_delta(data: Bytes, base: Any, shape: DeltaShape, out: Any) -> bool:
    mask = shape.dtype.type(shape.mask)
    if not _HEADER.size <= data.size <= out.nbytes:
        return False
    lanes, shift, lowest, contexts, run = _HEADER.unpack_from(data.data)
    if shift >= 8 * out.itemsize or lowest + contexts > shape.mask >> shift:
        return False
    coded, at = _read_map(data, -(-out.size // CHUNK), run)
    if coded is None:
        return False
    found = rans_stream.read(data[at:], (contexts + 1, shape.symbols), lanes, codec_rans_numpy)
    if found is None:
        return False
    frequency, words, used = found
    sign = shape.sign_magnitude
    return rans_distances_numpy.decode_tokens(
        words, used, base, mask, shift, lowest, frequency, lanes, coded, sign, out
    )


def _read_map(data: Bytes, chunks: int, run: int) -> tuple[Bytes | None, int]:
    """Which chunks are coded, None where the map is cut off; and where the tables begin."""
    if not run:
        return np.ones(chunks, np.uint8), _HEADER.size
    bits = -(-chunks // run)
    packed = data[_HEADER.size : _HEADER.size + (bits + 7) // 8]
    if packed.size * 8 < bits:
        return None, 0
    coded = np.repeat(np.unpackbits(packed, bitorder="little")[:bits], run)[:chunks]
    return coded, _HEADER.size + packed.size


def decode_planes(
    segments: Sequence[Sequence[Bytes]], outs: Sequence[Bytes], shape: PlanesShape
) -> list[bool]:
    """Fill `outs` from the planes of rans-planes blocks; False where the codec has to: a plane went through
    zstd, or is not whole."""
    del segments, shape
    return [False] * len(outs)


def same(left: Sequence[Bytes], right: Sequence[Bytes]) -> bool:
    """Whether blocks of the same sizes, pair by pair, hold the same bytes."""
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
