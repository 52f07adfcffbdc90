"""Arrays by address: how a compiled kernel takes any number of arrays in one call.

Relies on numba. Promises: nothing is copied. The caller holds the arrays while the kernel runs, and vouches
for their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray, extending, types  # type: ignore[attr-defined]
from numba.core import cgutils

from mpstore.kernels.jit import compiled


@extending.intrinsic
def _pointer_of(typing: Any, address: Any) -> Any:
    """An address as a pointer."""
    del typing

    def codegen(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


_pointer: Any = _pointer_of


@compiled
def words_at(address: Any, size: int, like: Any) -> Any:
    """`size` elements of the type of the array `like` at an address (uint64)."""
    return carray(_pointer(address), (size,), like.dtype)


def addresses(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """Where arrays begin. ValueError: one is not contiguous."""
    known: dict[int, int] = {}  # asking costs two microseconds, and a base serves many experts
    for array in arrays:
        if id(array) not in known:
            if not array.flags.c_contiguous:
                raise ValueError("kernels take contiguous arrays")
            known[id(array)] = array.__array_interface__["data"][0]
    return np.array([known[id(array)] for array in arrays], np.uint64)
