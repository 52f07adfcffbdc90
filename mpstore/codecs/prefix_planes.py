"""`prefix-planes`: floats as exponents in prefix codes and, as they are, the mantissa and sign bits.

Relies on the `prefix` kernels and segments. Promises: exact round trip for any words. Planes of bytes that
look uneven (a float32 that was a bfloat16 once) are packed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpstore import kernels
from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes, pack, unpack
from mpstore.errors import DamagedError
from mpstore.kernels.planes_numpy import WORD
from mpstore.kernels.prefix_numpy import PrefixShape


def takes(form: Format) -> bool:
    """Whether there is an exponent to code."""
    return form.layout.sign_magnitude


def shape_of(form: Format) -> PrefixShape:
    """Words of a format; the symbol is the exponent, or the top eight bits of a longer one."""
    layout = form.layout
    rest = max(layout.mantissa_bits + 1, 8 * layout.word_bytes - 8)
    return PrefixShape(np.dtype(WORD[layout.word_bytes]), rest)


def encode_many(raws: Sequence[Bytes], form: Format, zstd_level: int) -> list[tuple[Buffer, ...]]:
    """The segments of each block: exponents, planes of bytes from the least significant on, odd bits."""
    shape = shape_of(form)
    made = []
    for split in kernels.pick("prefix").split_many(raws, shape):
        planes = [
            pack(plane, zstd_level) if promising else plane
            for plane, promising in zip(split.planes, split.promising, strict=True)
        ]
        made.append((split.symbols, *planes, *([split.odd] if shape.odd_bits else [])))
    return made


def decode_into(form: Format, blocks: Sequence[Sequence[Buffer]], outs: Sequence[Bytes]) -> None:
    """Inverse of `encode_many`: the segments of blocks of at least one word into `outs`."""
    shape = shape_of(form)
    nothing = np.empty(0, np.uint8)
    symbols, planes, odd = [], [], []
    for segments, out in zip(blocks, outs, strict=True):
        words, rest = divmod(out.size, shape.dtype.itemsize)
        if rest or len(segments) != 1 + shape.planes + (shape.odd_bits > 0):
            raise DamagedError(
                f"{len(segments)} segments cannot be a prefix-planes block of {out.size} bytes"
            )
        symbols.append(as_bytes(segments[0]))
        planes.append([unpack(segment, words) for segment in segments[1 : 1 + shape.planes]])
        bits = as_bytes(segments[-1]) if shape.odd_bits else nothing
        if bits.size != shape.odd_bits * ((words + 7) // 8):
            raise DamagedError(f"{bits.size} bytes of odd bits for {words} words")
        odd.append(bits)
    if not all(kernels.pick("prefix").join_many(symbols, planes, odd, outs, shape)):
        raise DamagedError("prefix-planes bits are damaged")
