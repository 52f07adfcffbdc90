"""The one table of codecs, and the choice between them: `encode` picks, `decode` follows the wire code.

Relies on the codecs of this room. Promises: wire codes never change their meaning; an encoded block is never
larger than raw; `decode` allocates the declared size plus fixed scratch, and raises DamagedError on anything
odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mpstore.codecs import plain, planes, rans_delta, rans_planes
from mpstore.codecs.formats import Format, Level
from mpstore.codecs.segments import Buffer, Bytes, Encoded, as_bytes
from mpstore.errors import DamagedError

RAW: Final = 0
CONST: Final = 1
ZSTD: Final = 2
PLANES: Final = 3
DELTA: Final = 4
RANS_PLANES: Final = 5
RANS_DELTA: Final = 6

NAMES: Final = {
    RAW: "raw",
    CONST: "const",
    ZSTD: "zstd",
    PLANES: "planes",
    DELTA: "delta",
    RANS_PLANES: "rans-planes",
    RANS_DELTA: "rans-delta",
}
_WITH_BASE: Final = frozenset({DELTA, RANS_DELTA})
_SMALL_ELEMENTS: Final = 1024  # below, tables of probabilities do not pay, and zstd is quicker to start
_RELATED: Final = 0.6  # a delta that takes more of raw than this is compared with having no base
_ZSTD_LEVEL: Final = {Level.FAST: 1, Level.DEFAULT: 1, Level.MAX: 9}


def needs_base(codec: int) -> bool:
    """Whether decoding this codec needs the delta base's bytes. DamagedError: no such codec."""
    if codec not in NAMES:
        raise DamagedError(f"unknown codec {codec}")
    return codec in _WITH_BASE


def name(codec: int) -> str:
    """The codec's name for people, "unknown-N" for a code this version does not know."""
    return NAMES.get(codec, f"unknown-{codec}")


def encode(raw: Buffer, form: Format, base: Buffer | None = None, level: Level = Level.DEFAULT) -> Encoded:
    """The smallest encoding of `raw` that this level tries; never larger than `raw`.

    `base` is the same-position block of the delta base; it is left aside unless it has the size of `raw`.
    """
    data = as_bytes(raw)
    element = plain.encode_const(data, form)
    if element is not None:
        return Encoded(CONST, (element.data,))
    best = Encoded(RAW, (data.data,))
    for candidate in _candidates(data, form, base, level):
        if candidate.encoded_bytes < best.encoded_bytes:
            best = candidate
    return best


def _candidates(data: Bytes, form: Format, base: Buffer | None, level: Level) -> list[Encoded]:
    zstd_level = _ZSTD_LEVEL[level]
    layout = form.layout
    if not layout.numeric or data.size % layout.word_bytes or not data.size:
        return [Encoded(ZSTD, (plain.encode_zstd(data, zstd_level),))]
    small = data.size < _SMALL_ELEMENTS * layout.word_bytes
    made: list[Encoded] = []
    if base is not None and as_bytes(base).size == data.size:
        segments = None if small else rans_delta.encode(data, form, as_bytes(base))
        if segments is not None:
            made.append(Encoded(RANS_DELTA, segments))
        else:
            made.append(Encoded(DELTA, planes.encode_planes(data, form, as_bytes(base), zstd_level)))
        if made[0].encoded_bytes < _RELATED * data.size:
            return made
    if small:
        made.append(Encoded(PLANES, planes.encode_planes(data, form, None, zstd_level)))
    else:
        made.append(Encoded(RANS_PLANES, rans_planes.encode(data, form, zstd_level, fine=level is Level.MAX)))
    return made


def decode(
    codec: int, form: Format, segments: Sequence[Buffer], raw_bytes: int, base: Buffer | None = None
) -> Bytes:
    """The `raw_bytes` bytes of a block as a (raw_bytes,) uint8 array, which may be a view of a segment."""
    reference = None
    if needs_base(codec):
        if base is None:
            raise DamagedError(f"codec {name(codec)} needs its base, and none was given")
        reference = as_bytes(base)
    if codec == RAW:
        return plain.decode_raw(segments, raw_bytes)
    if codec == CONST:
        return plain.decode_const(form, segments, raw_bytes)
    if codec == ZSTD:
        return plain.decode_zstd(segments, raw_bytes)
    if codec == RANS_PLANES:
        return rans_planes.decode(form, segments, raw_bytes)
    if codec == RANS_DELTA and reference is not None:
        return rans_delta.decode(form, segments, raw_bytes, reference)
    return planes.decode_planes(form, segments, raw_bytes, reference)
