"""`rice_numpy` compiled: the same bytes, several blocks a call, without the interpreter lock.

Relies on kernels.native. Promises: scratch of about three times the largest block is kept by each thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpstore.kernels import native
from mpstore.kernels.bits_numpy import Bytes
from mpstore.kernels.rice_numpy import RiceShape
from mpstore.kernels.scratch import scratch, segments_in


def encode_many(raws: Sequence[Bytes], bases: Sequence[Bytes], shape: RiceShape) -> list[bytes | None]:
    """As the reference."""
    library = native.library()
    word_bytes = shape.dtype.itemsize
    largest = max((raw.size for raw in raws), default=0)
    room = scratch("room", library.rice_room(largest // word_bytes, word_bytes))
    out = scratch("out", sum(raw.size for raw in raws))
    lengths = np.empty(len(raws), np.int64)
    library.rice_encode(
        raws, bases, word_bytes, shape.sign_magnitude, shape.mask, shape.shift, room, out, lengths
    )
    return segments_in(out, raws, lengths)


def decode_many(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], shape: RiceShape
) -> list[bool]:
    """As the reference."""
    whole = np.zeros(len(outs), np.uint8)
    native.library().rice_decode(
        segments, bases, outs, shape.dtype.itemsize, shape.sign_magnitude, shape.mask, shape.shift, whole
    )
    return [bool(one) for one in whole.tolist()]
