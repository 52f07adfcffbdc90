"""Whole blocks through the rANS codecs, several a call, so that the interpreter lock is let go of once.

Relies on the extension (rans_delta.c, rans_planes.c). Promises: the bytes of codec_batch_numpy; arrays stay
where they are. Scratch is a few times a block and tables of some MB for each thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpstore.kernels import native, rans_tables
from mpstore.kernels.codec_batch_numpy import Bytes, DeltaShape, PlanesShape
from mpstore.kernels.scratch import scratch


def _room(library: Any, blocks: Sequence[Bytes], word_bytes: int) -> Bytes:
    largest = max((block.size for block in blocks), default=0)
    return scratch("room", library.rans_scratch_bytes(largest // word_bytes, word_bytes))


def _numbers(shape: DeltaShape) -> tuple[int, bool, int, int, int, int]:
    return shape.dtype.itemsize, shape.sign_magnitude, shape.shift, shape.rows, shape.symbols, shape.mask


def encode_deltas(
    raws: Sequence[Bytes], bases: Sequence[Bytes], shape: DeltaShape
) -> list[memoryview | None]:
    """As the reference."""
    library = native.library()
    width = shape.dtype.itemsize
    out = scratch("out", sum(library.rans_delta_bytes(raw.size // width, width) for raw in raws))
    lengths = np.empty(len(raws), np.int64)
    room = _room(library, raws, width)
    library.encode_deltas(
        raws, bases, *_numbers(shape), rans_tables.LOGS, rans_tables.EDGES, room, out, lengths
    )
    made: list[memoryview | None] = []
    at = 0
    for length in lengths.tolist():
        made.append(memoryview(out[at : at + length].tobytes()) if length >= 0 else None)
        at += max(0, length)
    return made


def decode_deltas(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], shape: DeltaShape
) -> list[bool]:
    """As the reference."""
    library = native.library()
    whole = np.zeros(len(outs), np.uint8)
    room = _room(library, outs, shape.dtype.itemsize)
    library.decode_deltas(segments, bases, outs, *_numbers(shape), room, whole)
    return [value > 0 for value in whole.tolist()]


def decode_planes(
    segments: Sequence[Sequence[Bytes]], outs: Sequence[Bytes], shape: PlanesShape
) -> list[bool]:
    """As the reference says: where a plane went through zstd, the codec has to."""
    library = native.library()
    width = shape.dtype.itemsize
    whole = np.zeros(len(outs), np.uint8)
    flat = [plane for planes in segments for plane in planes]
    library.decode_planes(flat, outs, width, shape.rotated, _room(library, outs, width), whole)
    return [value > 0 for value in whole.tolist()]


def same(left: Sequence[Bytes], right: Sequence[Bytes]) -> bool:
    """As the reference."""
    equal: bool = native.library().same(left, right)
    return equal
