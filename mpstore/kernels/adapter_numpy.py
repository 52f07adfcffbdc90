"""A run of a low-rank product's elements, each summed over the rank in order (numpy reference).

Relies on numpy. Promises: the bits of `adapter_native`; an element's bits do not depend on the run it is
asked for in (a BLAS product's would).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]


def product_run(left: Floats, right: Floats, scale: float, start: int, out: Floats) -> int:
    """out = elements start .. start + n - 1 of scale * (left @ right), flattened row by row.

    left (m, r), right (r, c) float32; products and sums in float64, k = 0 .. r - 1 in order, rounded once.
    Returns how many results are NaN or infinite.
    """
    columns = right.shape[1]
    if out.size == 0:
        return 0
    first, last = start // columns, -(-(start + out.size) // columns)
    total = np.zeros((last - first, columns), np.float64)
    rows = left[first:last].astype(np.float64)
    with np.errstate(all="ignore"):
        for k in range(right.shape[0]):
            total += rows[:, k, None] * right[k].astype(np.float64)[None, :]
        begin = start - first * columns
        out[:] = (total * np.float64(scale)).reshape(-1)[begin : begin + out.size]
    return int(out.size - np.count_nonzero(np.isfinite(out)))
