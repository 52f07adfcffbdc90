"""`ranks_numpy` in C.

Relies on kernels.native. Promises: the ranks of the reference; releases the interpreter lock.
"""

from __future__ import annotations

import numpy as np

from mpstore.kernels import native
from mpstore.kernels.ranks_numpy import Floats, Integers, index_bits, settle_ties


def ranks(values: Floats) -> Integers:
    """`ranks_numpy.ranks`."""
    bits, words = index_bits(values), np.empty(len(values), np.int64)
    native.library().falling_words(values, bits, words)
    words.sort()
    rank, tied, run = (np.empty(len(values), np.int64) for _ in range(3))
    ties = native.library().enter_ranks(words, bits, rank, tied, run)
    settle_ties(values, words, rank, tied[:ties], run[:ties])
    return rank
