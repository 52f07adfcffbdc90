"""`rans-planes`: words split into byte planes, each raw, zstd or rANS, whichever is smallest.

Relies on kernels and segments. Promises: exact round trip for any words. A float's sign is first
rotated to the low bit, so that the top plane of a bf16 or f32 is its exponent, which rANS codes well, and
the planes below, which do not compress, are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mpstore import kernels
from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes, expect, join, pack, unpack
from mpstore.errors import DamagedError
from mpstore.kernels import rans_stream
from mpstore.kernels.codec_batch_numpy import PlanesShape
from mpstore.kernels.planes_numpy import WORD

_RAW: Final = 0
_ZSTD: Final = 1
_RANS: Final = 2
_FINE: Final = 3  # of the top plane: two bits of the plane below are in its symbols
_SIX_BITS: Final = 4  # of the plane below such a top plane
_WHOLE_EXPONENT: Final = (7, 23)  # mantissas that leave a byte to the exponent: bf16, f32
_FINE_ELEMENTS: Final = 32768
_PROBE_BYTES: Final = 4096
_HOPELESS_BITS: Final = 7.8


def encode(raw: Bytes, form: Format, zstd_level: int, fine: bool = False) -> tuple[Buffer, ...]:
    """One segment a plane, least significant first: a mode byte and the plane in that mode.

    `fine`: the two top bits of a mantissa that fills its byte are coded with the exponent, as they are not
    quite evenly spread; this takes half a percent off a bf16, and decoding a third longer.
    """
    layout = form.layout
    words = raw.view(WORD[layout.word_bytes])
    loops = kernels.pick("codec_rans")
    planes = np.empty((layout.word_bytes, words.size), np.uint8)
    loops.split_planes(words, layout.sign_magnitude, planes)
    made = [_encode_plane(plane, zstd_level, loops) for plane in planes]
    if fine and layout.mantissa_bits in _WHOLE_EXPONENT and words.size >= _FINE_ELEMENTS:
        pair = _encode_fine(planes[-1], planes[-2], loops)
        if pair is not None and len(pair[0]) + len(pair[1]) < len(made[-1]) + len(made[-2]):
            made[-2:] = pair
    return tuple(made)


def _encode_fine(top: Bytes, below: Bytes, loops: Any) -> tuple[bytes, bytes] | None:
    present = np.zeros(256, np.uint32)
    loops.count_bytes(top, present)
    values = np.flatnonzero(present).astype(np.uint8)
    if values.size > 64:
        return None
    ranks = np.zeros(256, np.uint8)
    ranks[values] = np.arange(values.size)
    symbols, packed = np.empty_like(top), np.empty(_six_bits_bytes(top.size), np.uint8)
    loops.split_fine(top, below, ranks, symbols, packed)
    counts = np.zeros(256, np.uint32)
    loops.count_bytes(symbols, counts)
    stream = _encode_rans(symbols, counts, loops)
    if stream is None:
        return None
    bitmap = np.packbits(present > 0, bitorder="little")
    return join((bytes([_SIX_BITS]), packed)), join((bytes([_FINE]), bitmap, stream))


def _six_bits_bytes(size: int) -> int:
    return (size + 1) // 2 + (size + 3) // 4


def _entropy_bits(counts: Any) -> float:
    present = counts[counts > 0].astype(np.float64)
    total = present.sum()
    return float((np.log2(total) - (present * np.log2(present)).sum() / total) if total else 0)


def _encode_plane(plane: Bytes, zstd_level: int, loops: Any) -> bytes:
    probe = np.zeros(256, np.uint32)
    loops.count_bytes(plane[:_PROBE_BYTES], probe)
    best: list[Buffer] = [bytes([_RAW]), plane.data]
    if _entropy_bits(probe) > _HOPELESS_BITS and plane.size >= 2 * _PROBE_BYTES:
        return join(best)
    counts = np.zeros(256, np.uint32)
    loops.count_bytes(plane, counts)
    expected = _entropy_bits(counts) / 8
    rans = _encode_rans(plane, counts, loops)
    if rans is not None and len(rans) < plane.size:
        best = [bytes([_RANS]), rans]
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
    return join((bytes([lanes]), tables, space[start:]))


def decode(form: Format, segments: Sequence[Buffer], raw_bytes: int) -> Bytes:
    """Inverse of `encode`."""
    layout = form.layout
    if raw_bytes % layout.word_bytes:
        raise DamagedError(f"{raw_bytes} bytes are not whole {form.name} words")
    expect(segments, layout.word_bytes)
    out = np.empty(raw_bytes // layout.word_bytes, WORD[layout.word_bytes])
    loops = kernels.pick("codec_rans")
    planes = np.empty((layout.word_bytes, out.size), np.uint8)
    parts = [as_bytes(segment) for segment in segments]
    if len(parts) > 1 and parts[-1].size and parts[-1][0] == _FINE:
        _decode_fine(parts[-1], parts[-2], planes[-1], planes[-2], loops)
        parts = parts[:-2]
    for plane, part in zip(planes, parts, strict=False):
        _decode_plane(part, plane, loops)
    loops.join_planes(planes, layout.sign_magnitude, out)
    return out.view(np.uint8)


def decode_into(form: Format, blocks: Sequence[Sequence[Buffer]], outs: Sequence[Bytes]) -> None:
    """`decode` of several blocks into `outs`, each of at least one byte, at once where there are kernels for
    that."""
    layout = form.layout
    width = layout.word_bytes
    sound = [
        k
        for k, (segments, out) in enumerate(zip(blocks, outs, strict=True))
        if len(segments) == width and out.size % width == 0
    ]
    whole: set[int] = set()
    if sound:
        loops = kernels.pick("codec_batch")
        planes = [[as_bytes(segment) for segment in blocks[k]] for k in sound]
        shape = PlanesShape(np.dtype(WORD[width]), layout.sign_magnitude)
        done = loops.decode_planes(planes, [outs[k] for k in sound], shape)
        whole = {k for k, well in zip(sound, done, strict=True) if well}
    for k, (segments, out) in enumerate(zip(blocks, outs, strict=True)):
        if k not in whole:
            out[:] = decode(form, segments, out.size)


def _decode_plane(data: Bytes, out: Bytes, loops: Any) -> None:
    mode = int(data[0]) if data.size else -1
    if mode == _RAW and data.size == out.size + 1:
        out[:] = data[1:]
    elif mode == _ZSTD:
        out[:] = unpack(data[1:], out.size)
    elif mode == _RANS and 2 <= data.size <= out.size:
        _decode_rans(data[1:], out, loops)
    else:
        raise DamagedError(f"plane of {data.size} bytes in mode {mode} cannot hold {out.size}")


def _decode_rans(data: Bytes, out: Bytes, loops: Any) -> None:
    lanes = int(data[0])
    found = rans_stream.read(data[1:], (1, 256), lanes, loops)
    if found is None or not loops.decode_symbols(found[1], found[2], found[0], lanes, out):
        raise DamagedError("rANS tables or words of a plane are damaged")


def _decode_fine(data: Bytes, rests: Bytes, top: Bytes, below: Bytes, loops: Any) -> None:
    if (
        not 34 <= data.size <= top.size
        or rests.size != 1 + _six_bits_bytes(top.size)
        or rests[0] != _SIX_BITS
    ):
        raise DamagedError(f"fine planes of {data.size} and {rests.size} bytes cannot hold {top.size} each")
    present = np.flatnonzero(np.unpackbits(data[1:33], bitorder="little"))
    values = np.zeros(64, np.uint8)
    values[: min(64, present.size)] = present[:64]
    symbols = np.empty_like(top)
    _decode_rans(data[33:], symbols, loops)
    loops.join_fine(symbols, values, rests[1:], top, below)
