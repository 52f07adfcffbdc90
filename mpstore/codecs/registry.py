"""The one table of codecs, and the choice between them: `encode` picks, `decode` follows the wire code.

Relies on the codecs of this room. Promises: wire codes never change their meaning; an encoded block is never
larger than raw; `decode` allocates the declared size plus fixed scratch, and raises DamagedError on anything
odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mpstore import kernels
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
    return encode_many([raw], form, [base], level)[0]


def encode_many(
    raws: Sequence[Buffer], form: Format, bases: Sequence[Buffer | None], level: Level = Level.DEFAULT
) -> list[Encoded]:
    """`encode` of several blocks of one format, each with its base or None."""
    datas = [as_bytes(raw) for raw in raws]
    elements = [plain.encode_const(data, form) for data in datas]
    references: list[Bytes | None] = [
        _reference(data, form, base) for data, base in zip(datas, bases, strict=True)
    ]
    small = _SMALL_ELEMENTS * form.layout.word_bytes
    large = {
        k: reference
        for k, reference in enumerate(references)
        if reference is not None and elements[k] is None and datas[k].size >= small
    }
    deltas: dict[int, tuple[Buffer, ...] | None] = {}
    if large:
        made = rans_delta.encode_many([datas[k] for k in large], form, list(large.values()))
        deltas = dict(zip(large, made, strict=True))
    return [
        _smallest(data, form, references[k], deltas.get(k), level)
        if element is None
        else Encoded(CONST, (element.data,))
        for k, (data, element) in enumerate(zip(datas, elements, strict=True))
    ]


def _reference(data: Bytes, form: Format, base: Buffer | None) -> Bytes | None:
    """The base, where a delta against it means something."""
    layout = form.layout
    if base is None or not layout.numeric or not data.size or data.size % layout.word_bytes:
        return None
    reference = as_bytes(base)
    return reference if reference.size == data.size else None


def _smallest(
    data: Bytes, form: Format, reference: Bytes | None, delta: tuple[Buffer, ...] | None, level: Level
) -> Encoded:
    best = Encoded(RAW, (data.data,))
    for candidate in _candidates(data, form, reference, delta, level):
        if candidate.encoded_bytes < best.encoded_bytes:
            best = candidate
    return best


def _candidates(
    data: Bytes, form: Format, reference: Bytes | None, delta: tuple[Buffer, ...] | None, level: Level
) -> list[Encoded]:
    """`delta`: the segments of rans-delta, where that gained anything."""
    zstd_level = _ZSTD_LEVEL[level]
    layout = form.layout
    if not layout.numeric or data.size % layout.word_bytes or not data.size:
        return [Encoded(ZSTD, (plain.encode_zstd(data, zstd_level),))]
    made: list[Encoded] = []
    if reference is not None:
        if delta is not None:
            made.append(Encoded(RANS_DELTA, delta))
        else:
            made.append(Encoded(DELTA, planes.encode_planes(data, form, reference, zstd_level)))
        if made[0].encoded_bytes < _RELATED * data.size:
            return made
    if data.size < _SMALL_ELEMENTS * layout.word_bytes:
        made.append(Encoded(PLANES, planes.encode_planes(data, form, None, zstd_level)))
    else:
        made.append(Encoded(RANS_PLANES, rans_planes.encode(data, form, zstd_level, fine=level is Level.MAX)))
    return made


def decode(
    codec: int, form: Format, segments: Sequence[Buffer], raw_bytes: int, base: Buffer | None = None
) -> Bytes:
    """The `raw_bytes` bytes of a block as a (raw_bytes,) uint8 array, which may be a view of a segment."""
    return decode_many(form, [Block(codec, segments, raw_bytes, base)])[0]


def _decode_alone(
    codec: int, form: Format, segments: Sequence[Buffer], raw_bytes: int, base: Buffer | None
) -> Bytes:
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


@dataclass(frozen=True)
class Block:
    """What `decode` takes, for one block of several."""

    codec: int
    segments: Sequence[Buffer]
    raw_bytes: int
    base: Buffer | None = None


def decode_many(form: Format, wanted: Sequence[Block]) -> list[Bytes]:
    """`decode` of several blocks of one format: results share memory. DamagedError: any is damaged."""
    batched = [k for k, block in enumerate(wanted) if _is_batched(block)]
    space = np.empty(sum(wanted[k].raw_bytes for k in batched), np.uint8)
    found: dict[int, Bytes] = {}
    at = 0
    for k in batched:
        found[k] = space[at : at + wanted[k].raw_bytes]
        at += wanted[k].raw_bytes
    own = [k for k in batched if wanted[k].codec == RANS_PLANES]
    if own:
        rans_planes.decode_into(form, [wanted[k].segments for k in own], [found[k] for k in own])
    leaning = [k for k in batched if wanted[k].codec == RANS_DELTA]
    if leaning:
        pairs = [(wanted[k].segments, as_bytes(wanted[k].base)) for k in leaning]
        rans_delta.decode_into(form, pairs, [found[k] for k in leaning])
    return [
        found[k]
        if k in found
        else _decode_alone(block.codec, form, block.segments, block.raw_bytes, block.base)
        for k, block in enumerate(wanted)
    ]


def _is_batched(block: Block) -> bool:
    if not block.raw_bytes:
        return False
    return block.codec == RANS_PLANES or (block.codec == RANS_DELTA and block.base is not None)


def same(decoded: Sequence[Bytes], raws: Sequence[Bytes]) -> bool:
    """Whether blocks, pair by pair, hold the same bytes."""
    if any(a.size != b.size for a, b in zip(decoded, raws, strict=True)):
        return False
    checked: bool = kernels.pick("codec_batch", sum(raw.size for raw in raws) // 2).same(decoded, raws)
    return checked
