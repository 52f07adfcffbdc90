"""The places of values in a sort by falling value (numpy reference).

Relies on numpy. Promises: the ranks of `ranks_native`, those of a stable sort.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


def ranks(values: Floats) -> Integers:
    """The place of each value in a stable sort by falling value: a sort of plain numbers takes a fifth of the
    time, the leading digits of a value above its index. Those whose leading digits are the same are sorted
    again."""
    bits = index_bits(values)
    words = (0.0 - values).view(np.int64)  # never -0.0
    words ^= (words >> 63) & 0x7FFFFFFFFFFFFFFF  # as integers they are ordered as the values are
    words >>= bits
    words <<= bits
    words |= np.arange(len(values))
    words.sort()
    ties = np.zeros(len(words) + 1, np.bool_)  # with the word before
    ties[1:-1] = words[1:] >> bits == words[:-1] >> bits
    words &= (1 << bits) - 1
    rank = np.empty(len(words), np.int64)
    rank[words] = np.arange(len(words))
    tied = np.flatnonzero(ties[:-1] | ties[1:])
    settle_ties(values, words, rank, tied, np.cumsum(~ties[:-1], dtype=np.int64)[tied])
    return rank


def index_bits(values: Floats) -> int:
    """How many bits an index of them takes."""
    return max(len(values) - 1, 1).bit_length()


def settle_ties(values: Floats, order: Integers, rank: Integers, tied: Integers, run: Integers) -> None:
    """Sort the indices `order` has at the places `tied` by the whole values, in each `run`."""
    own = order[tied]
    rank[own[np.lexsort((own, -values[own], run))]] = tied
