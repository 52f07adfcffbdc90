"""`adapter_numpy` in C.

Relies on kernels.native. Promises: the bits of the reference; releases the interpreter lock.
"""

from __future__ import annotations

from mpstore.kernels import native
from mpstore.kernels.adapter_numpy import Floats


def product_run(left: Floats, right: Floats, scale: float, start: int, out: Floats) -> int:
    """`adapter_numpy.product_run`, of at least one column of `left`."""
    bad: int = native.library().product_run(left, right, *right.shape, scale, start, out)
    return bad
