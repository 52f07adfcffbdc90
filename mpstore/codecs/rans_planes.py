"""`rans-planes`: words split into byte planes, each raw, zstd or rANS, whichever is smallest.

Relies on kernels, rans_stream and segments. Promises: exact round trip for any words. A float's sign is first
rotated to the low bit, so that the top plane of a bf16 or f32 is its exponent, which rANS codes well, and
the planes below, which do not compress, are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mpstore.codecs import rans_stream
from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes, expect, join, pack, unpack
from mpstore.errors import DamagedError
from mpstore.kernels.planes_numpy import WORD

_RAW: Final = 0
_ZSTD: Final = 1
_RANS: Final = 2
_PROBE_BYTES: Final = 4096
_HOPELESS_BITS: Final = 7.8


def encode(raw: Bytes, form: Format, zstd_level: int) -> tuple[Buffer, ...]:
    """One segment a plane, least significant first: a mode byte and the plane in that mode."""
    layout = form.layout
    words = raw.view(WORD[layout.word_bytes])
    loops = rans_stream.kernel(words.size)
    planes = np.empty((layout.word_bytes, words.size), np.uint8)
    loops.split_planes(words, layout.sign_magnitude, planes)
    return tuple(_encode_plane(plane, zstd_level, loops) for plane in planes)


def _entropy_bits(counts: Any) -> float:
    present = counts[counts > 0].astype(np.float64)
    total = present.sum()
    return float((np.log2(total) - (present * np.log2(present)).sum() / total) if total else 0)


def _encode_plane(plane: Bytes, zstd_level: int, loops: Any) -> Buffer:
    probe = np.zeros(256, np.uint32)
    loops.count_bytes(plane[:_PROBE_BYTES], probe)
    best: list[Buffer] = [bytes([_RAW]), plane.data]
    if _entropy_bits(probe) > _HOPELESS_BITS and plane.size >= 2 * _PROBE_BYTES:
        return join(best)
    counts = np.zeros(256, np.uint32)
    loops.count_bytes(plane, counts)
    expected = _entropy_bits(counts) / 8
    rans = _encode_rans(plane, counts, loops)
    if rans is not None and len(rans) <= plane.size:
        best = [rans]
    sample = plane[plane.size // 2 :][:_PROBE_BYTES]
    if plane.size < 4 * _PROBE_BYTES or memoryview(pack(sample, 1)).nbytes < 0.9 * expected * sample.size:
        squeezed = pack(plane, zstd_level)
        if memoryview(squeezed).nbytes + 1 < sum(memoryview(part).nbytes for part in best):
            best = [bytes([_ZSTD]), squeezed]
    return join(best)


def _encode_rans(plane: Bytes, counts: Any, loops: Any) -> bytes | None:
    tables, frequency = rans_stream.tables_of(counts.astype(np.int64).reshape(1, 256), loops)
    lanes = rans_stream.lanes_for(plane.size)
    space = np.empty(plane.size // 2 + 256, np.uint16)
    start = loops.encode_symbols(plane, frequency, lanes, space)
    if start < 0:
        return None
    return join((bytes([_RANS, lanes]), tables, space[start:]))


def decode(form: Format, segments: Sequence[Buffer], raw_bytes: int) -> Bytes:
    """Inverse of `encode`."""
    layout = form.layout
    if raw_bytes % layout.word_bytes:
        raise DamagedError(f"{raw_bytes} bytes are not whole {form.name} words")
    expect(segments, layout.word_bytes)
    out = np.empty(raw_bytes // layout.word_bytes, WORD[layout.word_bytes])
    loops = rans_stream.kernel(out.size)
    planes = np.empty((layout.word_bytes, out.size), np.uint8)
    for plane, segment in zip(planes, segments, strict=True):
        _decode_plane(as_bytes(segment), plane, loops)
    loops.join_planes(planes, layout.sign_magnitude, out)
    return out.view(np.uint8)


def _decode_plane(data: Bytes, out: Bytes, loops: Any) -> None:
    mode = int(data[0]) if data.size else -1
    if mode == _RAW and data.size == out.size + 1:
        out[:] = data[1:]
    elif mode == _ZSTD:
        out[:] = unpack(data[1:], out.size)
    elif mode == _RANS and 2 <= data.size <= out.size:
        lanes = int(data[1])
        frequency, words, used = rans_stream.read(data[2:], (1, 256), lanes, loops)
        if not loops.decode_symbols(words, used, frequency, lanes, out):
            raise DamagedError("rANS words of a plane are damaged")
    else:
        raise DamagedError(f"plane of {data.size} bytes in mode {mode} cannot hold {out.size}")
