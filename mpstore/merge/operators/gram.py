"""The fact `gram`: inner products of base and deltas over a tensor, block after block.

Relies on kernels. Promises: the same bits whatever the block size (a multiple of 64 elements).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mpstore.kernels import merge_numpy
from mpstore.merge.operators.protocol import Array

Gram = npt.NDArray[np.float64]


def start(experts: int) -> Gram:
    """The matrix before the first block: zeros of shape (experts + 1, experts + 1)."""
    return np.zeros((experts + 1, experts + 1), np.float64)


def accumulate(gram: Gram, base: Array, deltas: Sequence[Array | None]) -> None:
    """Add one block's inner products of [base, delta_1 .. delta_K] (None: zeros), in element order.

    Every block but a tensor's last must have a multiple of 64 elements.
    """
    merge_numpy.accumulate_gram(gram, [base, *deltas])
