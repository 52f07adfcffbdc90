"""`planes` and `delta`: words split into byte planes, each through zstd where that helps.

Relies on kernels and segments. Promises: exact round trip for any words. `planes` rotates a float's sign to
the low bit first; `delta` codes the zigzagged distance to the base in units of the last place instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, expect, pack, unpack
from mpstore.errors import DamagedError
from mpstore.kernels import planes_numpy as kernel


def encode_planes(raw: Bytes, form: Format, base: Bytes | None, zstd_level: int) -> tuple[Buffer, ...]:
    """One segment a plane, least significant first. `raw` (and `base`) are whole words of the format."""
    layout = form.layout
    words = raw.view(kernel.WORD[layout.word_bytes])
    if base is not None:
        words = kernel.difference(words, base.view(words.dtype), layout.sign_magnitude)
    elif layout.sign_magnitude:
        words = kernel.rotate_sign(words)
    return tuple(pack(plane, zstd_level) for plane in kernel.split_planes(words))


def decode_planes(form: Format, segments: Sequence[Buffer], raw_bytes: int, base: Bytes | None) -> Bytes:
    """Inverse of `encode_planes`."""
    layout = form.layout
    width = layout.word_bytes
    if raw_bytes % width or (base is not None and base.size != raw_bytes):
        raise DamagedError(f"{raw_bytes} bytes are not whole {form.name} words of the base's size")
    expect(segments, width)
    words = kernel.join_planes([unpack(segment, raw_bytes // width) for segment in segments], width)
    if base is not None:
        words = kernel.undifference(words, base.view(words.dtype), layout.sign_magnitude)
    elif layout.sign_magnitude:
        words = kernel.unrotate_sign(words)
    plain: Bytes = words.view("u1")
    return plain
