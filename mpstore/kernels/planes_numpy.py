"""Byte planes and monotone integer order of little-endian words: vectorised numpy, no scratch kept.

Relies on numpy. Promises: every function is a bijection with its inverse beside it; shapes are (n,) words
of dtype uint8/16/32/64 and (word_bytes, n) uint8 planes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = Any  # (n,) array of little-endian unsigned words of one of the four widths
Bytes: TypeAlias = npt.NDArray[np.uint8]

WORD: dict[int, Any] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


def _bits(words: Words) -> int:
    return int(words.dtype.itemsize) * 8


def rotate_sign(words: Words) -> Words:
    """Move the top bit to the bottom, so that exponent and sign no longer share a byte."""
    one = words.dtype.type(1)
    return (words << one) | (words >> words.dtype.type(_bits(words) - 1))


def unrotate_sign(words: Words) -> Words:
    """Inverse of `rotate_sign`."""
    one = words.dtype.type(1)
    return (words >> one) | (words << words.dtype.type(_bits(words) - 1))


def to_monotone(words: Words) -> Words:
    """Sign-magnitude bit patterns to integers that order as the values do (-0 just below +0)."""
    top = words.dtype.type(1 << (_bits(words) - 1))
    negative = (words & top) != 0
    return np.where(negative, ~words, words | top)


def from_monotone(words: Words) -> Words:
    """Inverse of `to_monotone`."""
    top = words.dtype.type(1 << (_bits(words) - 1))
    positive = (words & top) != 0
    return np.where(positive, words ^ top, ~words)


def zigzag(words: Words) -> Words:
    """Two's complement to unsigned with small magnitudes first: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..."""
    kind = words.dtype.type
    return (words << kind(1)) ^ (kind(0) - (words >> kind(_bits(words) - 1)))


def unzigzag(words: Words) -> Words:
    """Inverse of `zigzag`."""
    kind = words.dtype.type
    return (words >> kind(1)) ^ (kind(0) - (words & kind(1)))


def difference(words: Words, base: Words, sign_magnitude: bool) -> Words:
    """Zigzagged distance from base in units of the last place (wrapping)."""
    if sign_magnitude:
        words, base = to_monotone(words), to_monotone(base)
    return zigzag(words - base)


def undifference(distance: Words, base: Words, sign_magnitude: bool) -> Words:
    """Inverse of `difference`."""
    if sign_magnitude:
        return from_monotone(unzigzag(distance) + to_monotone(base))
    return unzigzag(distance) + base


def split_planes(words: Words) -> Bytes:
    """(n,) words to (word_bytes, n) planes, least significant byte first."""
    width = words.dtype.itemsize
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, width).T)


def join_planes(planes: list[Bytes], width: int) -> Words:
    """Inverse of `split_planes`."""
    out = np.empty((planes[0].size, width), np.uint8)
    for index, plane in enumerate(planes):
        out[:, index] = plane
    return out.reshape(-1).view(WORD[width])
