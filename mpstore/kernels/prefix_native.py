"""`prefix_numpy` compiled: the same bytes, several blocks a call, without the interpreter lock.

Relies on kernels.native. Promises: scratch of a few times the largest block is kept by each thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpstore.kernels import native
from mpstore.kernels.bits_numpy import Bytes
from mpstore.kernels.prefix_numpy import PrefixShape, Split
from mpstore.kernels.scratch import scratch


def split_many(raws: Sequence[Bytes], shape: PrefixShape) -> list[Split]:
    """As the reference."""
    library = native.library()
    word_bytes = shape.dtype.itemsize
    largest = max((raw.size for raw in raws), default=0) // word_bytes
    stride = library.prefix_most(word_bytes, shape.rest_bits, largest)
    room = scratch("room", library.prefix_room(largest))
    out = scratch("out", stride * len(raws))
    lengths, promising = np.empty(len(raws), np.int64), np.empty(len(raws), np.uint64)
    library.prefix_split(raws, word_bytes, shape.rest_bits, room, out, stride, lengths, promising)
    made = []
    for k, (raw, length, flags) in enumerate(zip(raws, lengths.tolist(), promising.tolist(), strict=True)):
        words, at = raw.size // word_bytes, k * stride + length
        planes = out[at : at + shape.planes * words].reshape(shape.planes, words).copy()
        at += planes.size
        odd = out[at : at + shape.odd_bits * ((words + 7) // 8)].tobytes()
        looks = tuple(bool(flags >> place & 1) for place in range(shape.planes))
        made.append(Split(out[k * stride : k * stride + length].tobytes(), planes, looks, odd))
    return made


def join_many(
    symbols: Sequence[Bytes],
    planes: Sequence[Sequence[Bytes]],
    odd: Sequence[Bytes],
    outs: Sequence[Bytes],
    shape: PrefixShape,
) -> list[bool]:
    """As the reference."""
    word_bytes = shape.dtype.itemsize
    whole = np.zeros(len(outs), np.uint8)
    room = scratch("room", max((out.size for out in outs), default=0) // word_bytes)
    flat = [plane for own in planes for plane in own]
    native.library().prefix_join(symbols, flat, odd, outs, word_bytes, shape.rest_bits, room, whole)
    return [bool(one) for one in whole.tolist()]
