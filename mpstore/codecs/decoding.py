"""From a wire code and segments to a block's bytes, several blocks a call.

Relies on the codecs of this room. Promises: allocates the declared size plus fixed scratch, and raises
DamagedError on anything odd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np

from mpstore import kernels
from mpstore.codecs import plain
from mpstore.codecs.codes import (
    CONST,
    PREFIX_PLANES,
    RANS_DELTA,
    RANS_PLANES,
    RAW,
    RICE_DELTA,
    TIER_DELTA,
    ZSTD,
    name,
    needs_base,
)
from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes
from mpstore.errors import DamagedError

_OWN: Final = {RANS_PLANES: "rans_planes", PREFIX_PLANES: "prefix_planes"}
_LEANING: Final = {RANS_DELTA: "rans_delta", RICE_DELTA: "rice_delta", TIER_DELTA: "tier_delta"}
"""Codecs of numbers, by their modules, which are imported with their kernels when a block needs them: records
and headers do not."""


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
    rows: dict[int, list[int]] = {}
    total_bytes = 0
    for k, block in enumerate(wanted):
        codec = block.codec
        if block.raw_bytes and (codec in _OWN or (codec in _LEANING and block.base is not None)):
            rows.setdefault(codec, []).append(k)
            total_bytes += block.raw_bytes
    space = np.empty(total_bytes, np.uint8)
    found: dict[int, Bytes] = {}
    at = 0
    for codec, own in rows.items():
        for k in own:
            found[k] = space[at : at + wanted[k].raw_bytes]
            at += wanted[k].raw_bytes
        outs = [found[k] for k in own]
        parts: list[Any] = [wanted[k].segments for k in own]
        if codec in _LEANING:
            parts = [(wanted[k].segments, as_bytes(wanted[k].base)) for k in own]
        _decoder(codec)(form, parts, outs)
    return [found[k] if k in found else _decode_alone(form, block) for k, block in enumerate(wanted)]


@cache
def _decoder(codec: int) -> Callable[..., None]:
    """The codec's `decode_into`."""
    module = import_module(f"mpstore.codecs.{_OWN.get(codec) or _LEANING[codec]}")
    into: Callable[..., None] = module.decode_into
    return into


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
    from mpstore.codecs import planes

    return planes.decode_planes(form, block.segments, block.raw_bytes, reference)


def hold(form: Format, blocks: Sequence[Block], raws: Sequence[Bytes]) -> bool:
    """Whether each of the blocks, of one format, holds these bytes. DamagedError: one is damaged."""
    leaning: list[tuple[Sequence[Buffer], Bytes]] = []
    leaning_raws, rest, rest_raws = [], [], []
    for block, raw in zip(blocks, raws, strict=True):
        if block.codec == TIER_DELTA and block.base is not None and block.raw_bytes == raw.size > 0:
            leaning.append((block.segments, as_bytes(block.base)))
            leaning_raws.append(raw)
        else:
            rest.append(block)
            rest_raws.append(raw)
    if leaning:
        from mpstore.codecs import tier_delta

        if not tier_delta.hold(form, leaning, leaning_raws):
            return False
    return _same(decode_many(form, rest), rest_raws)


def _same(decoded: Sequence[Bytes], raws: Sequence[Bytes]) -> bool:
    """Whether blocks, pair by pair, hold the same bytes."""
    if any(a.size != b.size for a, b in zip(decoded, raws, strict=True)):
        return False
    checked: bool = kernels.pick("codec_batch").same(decoded, raws)
    return checked
