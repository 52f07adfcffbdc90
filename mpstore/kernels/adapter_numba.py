"""`adapter_numpy` compiled: a row at a time, in chunks that stay in the first-level cache.

Relies on numba. Promises: the bits of the reference; releases the interpreter lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels.jit import compiled

_CHUNK = 2048


@compiled
def _add_scaled(values: Any, factor: Any, total: Any) -> None:
    for j in range(values.size):
        total[j] += factor * np.float64(values[j])


@compiled
def product_run(left: Any, right: Any, scale: float, start: int, out: Any) -> int:
    """`adapter_numpy.product_run`."""
    columns = right.shape[1]
    totals = np.empty(_CHUNK, np.float64)
    bad = 0
    at = 0
    while at < out.size:
        row = (start + at) // columns
        column = (start + at) - row * columns
        width = min(min(columns - column, out.size - at), _CHUNK)
        total = totals[:width]
        total[:] = 0.0
        for k in range(right.shape[0]):
            _add_scaled(right[k, column : column + width], np.float64(left[row, k]), total)
        part = out[at : at + width]
        for j in range(width):
            part[j] = np.float32(total[j] * np.float64(scale))
            bad += 0 if np.isfinite(part[j]) else 1
        at += width
    return bad
