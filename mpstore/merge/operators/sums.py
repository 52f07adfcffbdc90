"""Sums over a tensor that come out the same on every machine.

Relies on numpy's elementwise addition alone (its own reductions may pair terms as the processor likes).
Promises: float64; chunks of 64 in element order, their sums added exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mpstore.merge.operators.protocol import Array

_CHUNK = 64
_BATCH_ELEMENTS = 1 << 18


def total(values: Array, of: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> float:
    """Σ of(x) over float32 `values` of shape (n,), `of` elementwise in float64; NaN where a term is none."""
    parts: list[float] = []
    for at in range(0, values.size, _BATCH_ELEMENTS):
        wide = of(values[at : at + _BATCH_ELEMENTS].astype(np.float64))
        wide = np.concatenate([wide, np.zeros(-wide.size % _CHUNK)]).reshape(-1, _CHUNK)
        sums = wide[:, 0].copy()
        for column in range(1, _CHUNK):
            sums += wide[:, column]
        parts.extend(sums.tolist())
    return math.fsum(parts) if np.isfinite(parts).all() else math.nan


def magnitudes(values: Array) -> float:
    """Σ|x|."""
    return total(values, np.abs)


def squares(values: Array) -> float:
    """Σx²."""
    return total(values, np.square)
