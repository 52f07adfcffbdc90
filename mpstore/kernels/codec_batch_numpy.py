"""The numpy side of codec_batch: numpy gains nothing from batches, so every block is left to its codec.

Relies on numpy. Promises: says of each block that it was not done; holds the values both sides take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
DELTA_HEADER_BYTES: Final = 7  # of a rans-delta block: docs/codecs.md
LONGEST_RUN: Final = 65535


@dataclass(frozen=True)
class DeltaShape:
    """Words of a rans-delta block: `mask` and `shift` give a base word's key, of which `rows` are told apart;
    `symbols` are the tokens that distances can have."""

    dtype: np.dtype[Any]
    sign_magnitude: bool
    mask: int
    shift: int
    rows: int
    symbols: int


@dataclass(frozen=True)
class PlanesShape:
    """Words of a rans-planes block; `rotated`: the sign lies in the low bit."""

    dtype: np.dtype[Any]
    rotated: bool


def encode_deltas(
    raws: Sequence[Bytes], bases: Sequence[Bytes], shape: DeltaShape
) -> list[memoryview | None]:
    """The rans-delta segment of each block (of at least one word) against its base of the same size; None
    where the codec has to say: it would be larger than the block, or numba is not at work."""
    del bases, shape
    return [None] * len(raws)


def decode_deltas(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], shape: DeltaShape
) -> list[bool]:
    """Fill `outs` from rans-delta segments; False where the codec has to, or to say what is wrong."""
    del segments, bases, shape
    return [False] * len(outs)


def decode_planes(
    segments: Sequence[Sequence[Bytes]], outs: Sequence[Bytes], shape: PlanesShape
) -> list[bool]:
    """Fill `outs` from the planes of rans-planes blocks; False where the codec has to: a plane is in another
    mode than raw or rANS, or is not whole."""
    del segments, shape
    return [False] * len(outs)


def same(left: Sequence[Bytes], right: Sequence[Bytes]) -> bool:
    """Whether blocks of the same sizes, pair by pair, hold the same bytes."""
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
