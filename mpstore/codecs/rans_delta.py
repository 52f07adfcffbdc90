"""`rans-delta`: zigzagged distance to the base in units of the last place, by rANS given the base's exponent.

Relies on kernels, which make and read the one segment. Promises: exact round trip for any words. Runs of
chunks in which nothing changed take one bit; the contexts are the base's exponents, the rare ones at both
ends taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from mpstore import kernels
from mpstore.codecs.formats import Format
from mpstore.codecs.segments import Buffer, Bytes, as_bytes, expect
from mpstore.errors import DamagedError
from mpstore.kernels.codec_batch_numpy import DeltaShape
from mpstore.kernels.planes_numpy import WORD

_KEYS: Final = 32  # octaves of the base's magnitude that are told apart, counted from the largest


def _shape(form: Format) -> DeltaShape:
    """The words, and how a base word gives its context: its exponent, where it has one."""
    layout = form.layout
    bits = 8 * layout.word_bytes
    keyed = layout.sign_magnitude
    return DeltaShape(
        dtype=np.dtype(WORD[layout.word_bytes]),
        sign_magnitude=layout.sign_magnitude,
        mask=(1 << (bits - 1)) - 1 if keyed else 0,
        shift=layout.mantissa_bits if keyed else 0,
        rows=_KEYS if keyed else 1,
        symbols=16 + 2 * (bits - 4),
    )


def encode_many(
    raws: Sequence[Bytes], form: Format, bases: Sequence[Bytes]
) -> list[tuple[Buffer, ...] | None]:
    """The one segment of each block (of at least one word) against a base of its size, which may be a little
    larger than the block; None: far larger."""
    made = kernels.pick("codec_batch").encode_deltas(raws, bases, _shape(form))
    return [None if segment is None else (segment,) for segment in made]


def decode_into(
    form: Format, blocks: Sequence[tuple[Sequence[Buffer], Bytes]], outs: Sequence[Bytes]
) -> None:
    """Inverse of `encode_many`: fill `outs` (of at least one byte) from several (segments, base)."""
    for (segments, base), out in zip(blocks, outs, strict=True):
        expect(segments, 1)
        if out.size % form.layout.word_bytes or base.size != out.size:
            raise DamagedError(f"{out.size} bytes cannot be a rans-delta block of {form.name} words")
    datas = [as_bytes(segments[0]) for segments, _ in blocks]
    done = kernels.pick("codec_batch").decode_deltas(datas, [base for _, base in blocks], outs, _shape(form))
    for data, out, whole in zip(datas, outs, done, strict=True):
        if not whole:
            raise DamagedError(f"rans-delta block of {data.size} bytes does not hold {out.size}")
