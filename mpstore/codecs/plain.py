"""The codecs that need no thought: `raw` (the bytes), `const` (one element repeated), `zstd` (opaque bytes).

Relies on segments. Promises: exact round trip; `const` is found by one comparison pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes, expect, pack, unpack
from mpstore.errors import DamagedError

_GLANCE_BYTES: Final = 4096


def decode_raw(segments: Sequence[Buffer], raw_bytes: int) -> Bytes:
    """One segment, the bytes themselves."""
    expect(segments, 1)
    plain = as_bytes(segments[0])
    if plain.size != raw_bytes:
        raise DamagedError(f"raw segment of {plain.size} bytes, not {raw_bytes}")
    return plain


def encode_const(raw: Bytes, form: Format) -> Bytes | None:
    """The repeated element, or None when the elements are not all the same (or there are none)."""
    width = form.item_bytes
    if raw.size < width or raw.size % width:
        return None
    glance = raw.data[:_GLANCE_BYTES]  # settles nearly every block, at its first bytes
    if glance[width:] != glance[: len(glance) - width] or not np.array_equal(raw[width:], raw[:-width]):
        return None
    return raw[:width]


def decode_const(form: Format, segments: Sequence[Buffer], raw_bytes: int) -> Bytes:
    """One segment of item size, repeated."""
    expect(segments, 1)
    element = as_bytes(segments[0])
    if element.size != form.item_bytes or raw_bytes % element.size:
        raise DamagedError(f"const segment of {element.size} bytes cannot fill {raw_bytes}")
    return np.tile(element, raw_bytes // element.size)


def encode_zstd(raw: Bytes, zstd_level: int) -> Buffer:
    """The whole block through zstd."""
    return pack(raw, zstd_level)


def decode_zstd(segments: Sequence[Buffer], raw_bytes: int) -> Bytes:
    """One segment, zstd or the bytes themselves."""
    expect(segments, 1)
    return unpack(segments[0], raw_bytes)
