"""`tiers_numpy` compiled: the same bytes, several blocks a call, without the interpreter lock.

Relies on kernels.native. Promises: scratch of about five times the largest block is kept by each thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpstore.kernels import native
from mpstore.kernels.bits_numpy import Bytes
from mpstore.kernels.scratch import scratch, segments_in


def encode_many(raws: Sequence[Bytes], bases: Sequence[Bytes], sign_magnitude: bool) -> list[bytes | None]:
    """As the reference."""
    library = native.library()
    largest = max((raw.size for raw in raws), default=0)
    room = scratch("room", library.tiers_room(largest // 2))
    out = scratch("out", sum(raw.size for raw in raws))
    lengths = np.empty(len(raws), np.int64)
    library.tiers_encode(raws, bases, sign_magnitude, room, out, lengths)
    return segments_in(out, raws, lengths)


def decode_many(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], sign_magnitude: bool
) -> list[bool]:
    """As the reference."""
    whole = np.zeros(len(outs), np.uint8)
    native.library().tiers_decode(segments, bases, outs, sign_magnitude, whole)
    return [bool(one) for one in whole.tolist()]


def hold(
    segments: Sequence[Bytes], bases: Sequence[Bytes], raws: Sequence[Bytes], sign_magnitude: bool
) -> list[bool]:
    """As the reference; nothing of what is decoded leaves the nearest caches."""
    same = np.zeros(len(raws), np.uint8)
    native.library().tiers_hold(segments, bases, raws, sign_magnitude, same)
    return [bool(one) for one in same.tolist()]
