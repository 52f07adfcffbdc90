"""Whole blocks through the rANS codecs, several a call, so that the interpreter lock is let go of once.

Relies on the extension (rans_delta.c, rans_planes.c). Promises: the bytes of codec_batch_numpy; arrays stay
where they are. Scratch is a few times a block for each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpstore.kernels import native, rans_tables
from mpstore.kernels.codec_batch_numpy import Bytes, DeltaShape, PlanesShape

_local = threading.local()


def _memory(purpose: str, size: int) -> Bytes:
    """This thread's bytes for a purpose, at least so many."""
    kept: dict[str, Bytes] = _local.__dict__.setdefault("kept", {})
    if purpose not in kept or kept[purpose].size < size:
        kept[purpose] = np.empty(size, np.uint8)
    return kept[purpose]


def _scratch(library: Any, blocks: Sequence[Bytes], word_bytes: int) -> Bytes:
    largest = max((block.size for block in blocks), default=0)
    return _memory("scratch", library.rans_scratch_bytes(largest // word_bytes, word_bytes))


def _numbers(shape: DeltaShape) -> tuple[int, bool, int, int, int, int]:
    return shape.dtype.itemsize, shape.sign_magnitude, shape.shift, shape.rows, shape.symbols, shape.mask


def encode_deltas(
    raws: Sequence[Bytes], bases: Sequence[Bytes], shape: DeltaShape
) -> list[memoryview | None]:
    """As the reference."""
    library = native.library()
    width = shape.dtype.itemsize
    out = _memory("out", sum(library.rans_delta_bytes(raw.size // width, width) for raw in raws))
    lengths = np.empty(len(raws), np.int64)
    scratch = _scratch(library, raws, width)
    library.encode_deltas(
        raws, bases, *_numbers(shape), rans_tables.LOGS, rans_tables.EDGES, scratch, out, lengths
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
    scratch = _scratch(library, outs, shape.dtype.itemsize)
    library.decode_deltas(segments, bases, outs, *_numbers(shape), scratch, whole)
    return [value > 0 for value in whole.tolist()]


def decode_planes(
    segments: Sequence[Sequence[Bytes]], outs: Sequence[Bytes], shape: PlanesShape
) -> list[bool]:
    """As the reference says: where a plane went through zstd, the codec has to."""
    library = native.library()
    width = shape.dtype.itemsize
    whole = np.zeros(len(outs), np.uint8)
    flat = [plane for planes in segments for plane in planes]
    library.decode_planes(flat, outs, width, shape.rotated, _scratch(library, outs, width), whole)
    return [value > 0 for value in whole.tolist()]


def same(left: Sequence[Bytes], right: Sequence[Bytes]) -> bool:
    """As the reference."""
    equal: bool = native.library().same(left, right)
    return equal
