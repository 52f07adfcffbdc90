"""`merge_numpy` in C: one pass over all deltas, in pieces that stay in the nearest caches.

Relies on the extension of `kernels.native` and on the columns of `merge_numpy.Terms`. Promises: the same bits
as the reference; releases the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mpstore.kernels import merge_numpy, native
from mpstore.kernels.merge_numpy import Floats, Terms

MOST_DELTAS: Final = 64  # for which the compiled side has room; more are the reference's
OFFSETS: Final = (1 << 64) - 1


def arguments(terms: Terms) -> tuple[Any, ...]:
    """Terms as compiled kernels take them."""
    return (
        terms.weight,
        terms.scale,
        terms.low,
        terms.high,
        terms.key,
        terms.keep,
        merge_numpy.exact_weights(terms.weight, terms.spare),
        bool(terms.random),
        bool(terms.elect),
        bool(terms.normalize),
        int(terms.spare),
        float(terms.divisor),
        float(terms.factor),
        float(terms.base_scale),
    )


def combine(base: Floats, deltas: Sequence[Floats], terms: Terms, start: int, out: Floats) -> None:
    """`merge_numpy.combine`."""
    for array in (base, *deltas, out):  # the compiled side sees the size of items, not what they are
        if array.dtype != np.float32 or array.shape != base.shape or not array.flags.c_contiguous:
            raise ValueError("combine takes C-contiguous float32 arrays of one shape (n,)")
    if len(deltas) > MOST_DELTAS:
        merge_numpy.combine(base, deltas, terms, start, out)
        return
    native.library().merge_combine(base, deltas, *arguments(terms), start & OFFSETS, out)
