"""From a wire code and segments to a block's bytes, several blocks a call.

Relies on the codecs of this room. Promises: allocates the declared size plus fixed scratch, and raises
DamagedError on anything odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from mpstore import kernels
from mpstore.codecs import plain, planes, prefix_planes, rans_delta, rans_planes, rice_delta
from mpstore.codecs.codes import (
    CONST,
    PREFIX_PLANES,
    RANS_DELTA,
    RANS_PLANES,
    RAW,
    RICE_DELTA,
    ZSTD,
    name,
    needs_base,
)
from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes
from mpstore.errors import DamagedError

_OWN: Final = {RANS_PLANES: rans_planes.decode_into, PREFIX_PLANES: prefix_planes.decode_into}
_LEANING: Final = {RANS_DELTA: rans_delta.decode_into, RICE_DELTA: rice_delta.decode_into}


class Block(NamedTuple):
    """What `decode` takes, for one block of several. A tuple, since a merge makes one of each frame."""

    codec: int
    segments: Sequence[Buffer]
    raw_bytes: int
    base: Buffer | None = None


def decode(
    codec: int, form: Format, segments: Sequence[Buffer], raw_bytes: int, base: Buffer | None = None
) -> Bytes:
    """The `raw_bytes` bytes of a block as a (raw_bytes,) uint8 array, which may be a view of a segment."""
    return decode_many(form, [Block(codec, segments, raw_bytes, base)])[0]


def decode_many(form: Format, wanted: Sequence[Block]) -> list[Bytes]:
    """`decode` of several blocks of one format: results share memory. DamagedError: any is damaged."""
    batched = [k for k, block in enumerate(wanted) if _is_batched(block)]
    space = np.empty(sum(wanted[k].raw_bytes for k in batched), np.uint8)
    found: dict[int, Bytes] = {}
    at = 0
    for k in batched:
        found[k] = space[at : at + wanted[k].raw_bytes]
        at += wanted[k].raw_bytes
    for codec, own_into in _OWN.items():
        rows = [k for k in batched if wanted[k].codec == codec]
        if rows:
            own_into(form, [wanted[k].segments for k in rows], [found[k] for k in rows])
    for codec, leaning_into in _LEANING.items():
        rows = [k for k in batched if wanted[k].codec == codec]
        if rows:
            pairs = [(wanted[k].segments, as_bytes(wanted[k].base)) for k in rows]
            leaning_into(form, pairs, [found[k] for k in rows])
    return [found[k] if k in found else _decode_alone(form, block) for k, block in enumerate(wanted)]


def _is_batched(block: Block) -> bool:
    if not block.raw_bytes:
        return False
    return block.codec in _OWN or (block.codec in _LEANING and block.base is not None)


def _decode_alone(form: Format, block: Block) -> Bytes:
    """Codecs that are never batched, and blocks without bytes or without the base that they need."""
    reference = None
    if needs_base(block.codec):
        if block.base is None:
            raise DamagedError(f"codec {name(block.codec)} needs its base, and none was given")
        reference = as_bytes(block.base)
    if block.codec == RAW:
        return plain.decode_raw(block.segments, block.raw_bytes)
    if block.codec == CONST:
        return plain.decode_const(form, block.segments, block.raw_bytes)
    if block.codec == ZSTD:
        return plain.decode_zstd(block.segments, block.raw_bytes)
    if block.codec in _OWN or block.codec in _LEANING:
        raise DamagedError(f"codec {name(block.codec)} holds no block of {block.raw_bytes} bytes")
    return planes.decode_planes(form, block.segments, block.raw_bytes, reference)


def same(decoded: Sequence[Bytes], raws: Sequence[Bytes]) -> bool:
    """Whether blocks, pair by pair, hold the same bytes."""
    if any(a.size != b.size for a, b in zip(decoded, raws, strict=True)):
        return False
    checked: bool = kernels.pick("codec_batch").same(decoded, raws)
    return checked
