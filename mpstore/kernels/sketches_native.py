"""`sketches_numpy` in C.

Relies on kernels.native. Promises: the bits of the reference; releases the interpreter lock.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore.kernels import native
from mpstore.kernels.sketches_numpy import Floats, Integers, Vectors

_ROWS: Final = 8
_NONE: Final = np.zeros(0, np.int8)


def squares(vectors: Vectors, rows: Integers, width: int) -> Floats:
    """`sketches_numpy.squares`."""
    out = np.empty((len(vectors), len(rows)))
    native.library().sketch_squares(_arrays(vectors), rows, width, out)
    return out


def products(vectors: Vectors, rows: Integers, width: int, scale: Floats) -> Floats:
    """`sketches_numpy.products`."""
    out, scratch = np.empty((len(vectors), len(vectors))), np.empty(len(vectors) * _ROWS * width)
    native.library().sketch_products(_arrays(vectors), rows, width, scale, out, scratch)
    return out


def _arrays(vectors: Vectors) -> list[npt.NDArray[Any]]:
    return [_NONE if one is None else one for one in vectors]
