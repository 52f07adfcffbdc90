"""Streams of single bits one after the other, and their lengths: what rice and prefix codes are made of.

Relies on numpy. Promises: a reader never looks past its data; what is missing reads as zeros and makes it
unsound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Bits: TypeAlias = npt.NDArray[np.bool_]
_MOST_LENGTH_BYTES = 5


def pack_bits(bits: Any) -> bytes:
    """Bits, the first one lowest, in whole bytes."""
    return np.packbits(np.asarray(bits, np.bool_), bitorder="little").tobytes()


def densest_window(counts: npt.NDArray[np.int64], size: int) -> int:
    """The first of the `size` consecutive keys that occur most often together; 0 where there are no more."""
    if counts.size <= size:
        return 0
    sums = np.concatenate(([0], np.cumsum(counts)))
    return int(np.argmax(sums[size:] - sums[:-size]))


def put_lengths(lengths: Sequence[int]) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the top bit set while more follow."""
    made = bytearray()
    for length in lengths:
        rest = length
        while rest > 127:
            made.append(rest & 127 | 128)
            rest >>= 7
        made.append(rest)
    return bytes(made)


def take_lengths(data: Bytes, at: int, count: int) -> tuple[list[int], int] | None:
    """`count` lengths from `at` on, and where they end; None: they do not fit the data."""
    found: list[int] = []
    for _ in range(count):
        length = 0
        for place in range(_MOST_LENGTH_BYTES):
            if at >= data.size:
                return None
            byte = int(data[at])
            at += 1
            length |= (byte & 127) << (7 * place)
            if byte < 128:
                break
        else:
            return None
        found.append(length)
    return found, at


class BitReader:
    """The streams in `data` from `at` on, taken in order. `sound`: each was exactly as long as was taken."""

    def __init__(self, data: Bytes, at: int, lengths: Sequence[int]) -> None:
        self._data = data
        self._at = at
        self._lengths = iter(lengths)
        self.sound = True

    def take_bytes(self, size: int) -> Bytes:
        """The next stream, which must have so many bytes."""
        length = next(self._lengths)
        stream = self._data[self._at : self._at + length]
        self._at += length
        if stream.size != size:
            self.sound = False
            stream = np.zeros(size, np.uint8)
        return stream

    def take(self, count: int) -> Bits:
        """The next stream, which must have so many bits."""
        stream = self.take_bytes((count + 7) // 8)
        return np.unpackbits(stream, count=count, bitorder="little").astype(np.bool_)
