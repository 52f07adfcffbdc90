"""Exact sums over sketches, whole numbers of one byte (numpy reference).

Relies on numpy. Promises: the bits of `sketches_native`: sums stay below 2^53, so no order of adding shows.
An expert without sketches, None, is as one whose sketches are all 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Vectors: TypeAlias = Sequence[npt.NDArray[np.int8] | None]


def squares(vectors: Vectors, rows: Integers, width: int) -> Floats:
    """(K, m): the squared lengths of some rows of `vectors` (N, width)."""
    lengths: Floats = np.square(_taken(vectors, rows, width), dtype=np.int32).sum(axis=2).astype(np.float64)
    return lengths


def products(vectors: Vectors, rows: Integers, width: int, scale: Floats) -> Floats:
    """(K, K): inner products of each two experts' rows, one behind the other, each times its `scale` (K, m),
    whole numbers."""
    flat = (_taken(vectors, rows, width) * scale[:, :, None]).reshape(len(scale), len(rows) * width)
    whole: Floats = flat @ flat.T
    return whole


def _taken(vectors: Vectors, rows: Integers, width: int) -> npt.NDArray[np.int8]:
    taken = np.zeros((len(vectors), len(rows), width), np.int8)
    for row, one in enumerate(vectors):
        if one is not None:
            one.take(rows, axis=0, out=taken[row], mode="clip")
    return taken
