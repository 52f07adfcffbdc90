"""Byte planes of words, compiled.

Relies on numba; codec_rans_numpy has the reference. Promises: the same bytes as the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels.jit import compiled

_U8 = np.uint8
_U32 = np.uint32
_PIECE = 2048


@compiled
def split_planes(words: Any, rotate: bool, planes: Any) -> None:
    """Words to (word bytes, n) planes, least significant first; a float's sign first moves to the low bit."""
    kind = words.dtype.type
    last = kind(words.itemsize * 8 - 1)
    for start in range(0, words.size, _PIECE):
        piece = words[start : start + _PIECE]
        for index in range(planes.shape[0]):
            plane = planes[index, start : start + _PIECE]
            if rotate:
                for i in range(piece.size):
                    word = kind(kind(piece[i] << kind(1)) | kind(piece[i] >> last))
                    plane[i] = _U8(word >> kind(8 * index))
            else:
                for i in range(piece.size):
                    plane[i] = _U8(piece[i] >> kind(8 * index))


@compiled
def join_planes(planes: Any, rotated: bool, out: Any) -> None:
    """Inverse of `split_planes`."""
    kind = out.dtype.type
    last = kind(out.itemsize * 8 - 1)
    for start in range(0, out.size, _PIECE):
        piece = out[start : start + _PIECE]
        low = planes[0, start : start + _PIECE]
        if planes.shape[0] == 2:  # the most common by far
            high = planes[1, start : start + _PIECE]
            for i in range(piece.size):
                piece[i] = kind(kind(low[i]) | kind(kind(high[i]) << kind(8)))
        else:
            for i in range(piece.size):
                piece[i] = kind(low[i])
            for index in range(1, planes.shape[0]):
                plane = planes[index, start : start + _PIECE]
                for i in range(piece.size):
                    piece[i] |= kind(kind(plane[i]) << kind(8 * index))
        if rotated:
            for i in range(piece.size):
                piece[i] = kind(kind(piece[i] >> kind(1)) | kind(piece[i] << last))


@compiled
def count_bytes(values: Any, counts: Any) -> None:
    """Add how often each byte value occurs to uint32 `counts` of shape (256,)."""
    other = np.zeros((3, 256), np.uint32)
    whole = values.size // 4 * 4
    for i in range(0, whole, 4):
        counts[values[i]] += _U32(1)
        other[0, values[i + 1]] += _U32(1)
        other[1, values[i + 2]] += _U32(1)
        other[2, values[i + 3]] += _U32(1)
    for i in range(whole, values.size):
        counts[values[i]] += _U32(1)
    for value in range(256):
        counts[value] += other[0, value] + other[1, value] + other[2, value]


@compiled
def split_fine(top: Any, below: Any, ranks: Any, symbols: Any, packed: Any) -> None:
    """As the reference."""
    size = top.size
    half, quarter = (size + 1) // 2, (size + 3) // 4
    for i in range(size):
        symbols[i] = _U8(ranks[top[i]] << _U8(2)) | _U8(below[i] >> _U8(6))
    nibbles, pairs = packed[:half], packed[half:]
    nibbles[:] = 0
    pairs[:] = 0
    for part in range(2):
        piece = below[part * half : (part + 1) * half]
        for i in range(piece.size):
            nibbles[i] |= _U8(_U8(piece[i] & _U8(15)) << _U8(4 * part))
    for part in range(4):
        piece = below[part * quarter : (part + 1) * quarter]
        for i in range(piece.size):
            pairs[i] |= _U8(_U8(_U8(piece[i] >> _U8(4)) & _U8(3)) << _U8(2 * part))


@compiled
def join_fine(symbols: Any, values: Any, packed: Any, top: Any, below: Any) -> None:
    """As the reference."""
    size = top.size
    half, quarter = (size + 1) // 2, (size + 3) // 4
    nibbles, pairs = packed[:half], packed[half:]
    for i in range(size):
        top[i] = values[symbols[i] >> _U8(2)]
        below[i] = _U8(symbols[i] << _U8(6))
    for part in range(2):
        piece = below[part * half : (part + 1) * half]
        for i in range(piece.size):
            piece[i] |= _U8(_U8(nibbles[i] >> _U8(4 * part)) & _U8(15))
    for part in range(4):
        piece = below[part * quarter : (part + 1) * quarter]
        for i in range(piece.size):
            piece[i] |= _U8(_U8(_U8(pairs[i] >> _U8(2 * part)) & _U8(3)) << _U8(4))
