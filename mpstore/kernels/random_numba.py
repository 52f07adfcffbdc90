"""`random_numpy` compiled: one draw, to be inlined where it is used.

Relies on numba. Promises: the bits of the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels.jit import inlined
from mpstore.kernels.random_numpy import DRAW_BITS, GOLDEN, MIX1, MIX2

_GOLDEN = np.uint64(GOLDEN)
_MIX1 = np.uint64(MIX1)
_MIX2 = np.uint64(MIX2)
_ONE = np.uint64(1)
_SHIFT = np.uint64(64 - DRAW_BITS)


@inlined
def draw(key: Any, offset: Any) -> Any:
    """The 53-bit draw of one element offset (uint64 both)."""
    state = np.uint64((offset + _ONE) * _GOLDEN + key)
    state = np.uint64((state ^ (state >> np.uint64(30))) * _MIX1)
    state = np.uint64((state ^ (state >> np.uint64(27))) * _MIX2)
    return np.uint64((state ^ (state >> np.uint64(31))) >> _SHIFT)
