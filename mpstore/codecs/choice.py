"""Which codec a block gets: the smallest of those that its level tries, and never one larger than raw.

Relies on the codecs of this room. Promises: what is tried depends on nothing but bytes, format, base and
level. Blocks travel in batches, because each call of a kernel lets go of the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Final, TypeAlias

from mpstore.codecs import plain, planes, prefix_planes, rans_delta, rans_planes, rice_delta, tier_delta
from mpstore.codecs.codes import (
    CONST,
    DELTA,
    PLANES,
    PREFIX_PLANES,
    RANS_DELTA,
    RANS_PLANES,
    RAW,
    RICE_DELTA,
    TIER_DELTA,
    ZSTD,
)
from mpstore.codecs.formats import Format, Level
from mpstore.codecs.segments import Buffer, Bytes, Encoded, as_bytes

Segments: TypeAlias = tuple[Buffer, ...]

_SMALL_ELEMENTS: Final = 1024  # below, tables and lengths of streams do not pay
_RELATED: Final = 0.6  # a delta that takes more of raw than this is compared with having no base
_ZSTD_LEVEL: Final = {Level.FAST: 1, Level.DEFAULT: 1, Level.SMALL: 1, Level.MAX: 9}


def encode(raw: Buffer, form: Format, base: Buffer | None = None, level: Level = Level.DEFAULT) -> Encoded:
    """The smallest encoding of `raw` that this level tries; never larger than `raw`.

    `base` is the same-position block of the delta base; it is left aside unless it has the size of `raw`.
    """
    return encode_many([raw], form, [base], level)[0]


def encode_many(
    raws: Sequence[Buffer], form: Format, bases: Sequence[Buffer | None], level: Level = Level.DEFAULT
) -> list[Encoded]:
    """`encode` of several blocks of one format, each with its base or None."""
    datas = dict(enumerate(as_bytes(raw) for raw in raws))
    best = {k: Encoded(RAW, (data.data,)) for k, data in datas.items()}
    for k, data in list(datas.items()):
        element = plain.encode_const(data, form)
        if element is not None:
            best[k] = Encoded(CONST, (element.data,))
            del datas[k]
    references = {
        k: base for k, data in datas.items() if (base := _reference(data, form, bases[k])) is not None
    }
    _improve(best, _deltas({k: datas[k] for k in references}, form, references, level))
    alone = {k: data for k, data in datas.items() if best[k].encoded_bytes >= _RELATED * data.size}
    _improve(best, _alone(alone, form, level))
    return [best[k] for k in range(len(raws))]


def _improve(best: dict[int, Encoded], made: Mapping[int, Encoded | None]) -> None:
    for k, encoded in made.items():
        if encoded is not None and encoded.encoded_bytes < best[k].encoded_bytes:
            best[k] = encoded


def _reference(data: Bytes, form: Format, base: Buffer | None) -> Bytes | None:
    """The base, where a delta against it means something."""
    if base is None or not _is_numeric(data, form):
        return None
    reference = as_bytes(base)
    return reference if reference.size == data.size else None


def _is_numeric(data: Bytes, form: Format) -> bool:
    """Whether the block is numbers, whole ones."""
    return form.layout.numeric and data.size > 0 and data.size % form.layout.word_bytes == 0


def _is_large(data: Bytes, form: Format) -> bool:
    return data.size >= _SMALL_ELEMENTS * form.layout.word_bytes


def _delta_codec(form: Format, level: Level) -> tuple[int, ModuleType]:
    if level is Level.MAX:
        return RANS_DELTA, rans_delta
    if level is Level.SMALL or form.layout.word_bytes != tier_delta.WORD_BYTES:
        return RICE_DELTA, rice_delta
    return TIER_DELTA, tier_delta


def _deltas(
    datas: Mapping[int, Bytes], form: Format, bases: Mapping[int, Bytes], level: Level
) -> dict[int, Encoded | None]:
    """Encoded against their bases; None where that gains nothing."""
    large = [k for k, data in datas.items() if _is_large(data, form)]
    codec, module = _delta_codec(form, level)
    made: list[Segments | None] = []
    if large:
        made = module.encode_many([datas[k] for k in large], form, [bases[k] for k in large])
    found = {k: None if one is None else Encoded(codec, one) for k, one in zip(large, made, strict=True)}
    for k in datas.keys() - found.keys():
        found[k] = Encoded(DELTA, planes.encode_planes(datas[k], form, bases[k], _ZSTD_LEVEL[level]))
    return found


def _alone(datas: Mapping[int, Bytes], form: Format, level: Level) -> dict[int, Encoded | None]:
    """Encoded on their own."""
    zstd_level = _ZSTD_LEVEL[level]
    found: dict[int, Encoded | None] = {}
    exponents = []
    for k, data in datas.items():
        if not _is_numeric(data, form):
            found[k] = Encoded(ZSTD, (plain.encode_zstd(data, zstd_level),))
        elif level is Level.MAX and _is_large(data, form):
            found[k] = Encoded(RANS_PLANES, rans_planes.encode(data, form, zstd_level, fine=True))
        elif not (prefix_planes.takes(form) and _is_large(data, form)):
            found[k] = Encoded(PLANES, planes.encode_planes(data, form, None, zstd_level))
        elif level is not Level.FAST or form.layout.word_bytes != 2:
            exponents.append(k)  # FAST: two thirds of a 16-bit float are not worth the time they take
    if exponents:
        made = prefix_planes.encode_many([datas[k] for k in exponents], form, zstd_level)
        found |= {k: Encoded(PREFIX_PLANES, one) for k, one in zip(exponents, made, strict=True)}
    return found
