"""The histogram of |delta| of one tensor, and how it answers "what is the r-th smallest?".

Relies on numpy. Promises: bins partition all float32 magnitudes by bit pattern, so order of bins is order
of values, with NaN above infinity; merging neighbours keeps every count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

END_BITS: Final = 0x8000
_ELEMENTS_A_BIN: Final = 4096
_FEWEST_BINS: Final = 16
_MOST_BINS: Final = 1024
_RICH: Final = 8  # parts of a share: so many elements that are an edge begin a bin


@dataclass(frozen=True)
class Bin:
    """Where a rank falls. Magnitudes inside have float32 patterns low_bits <= p < high_bits; `below` elements
    are smaller than all of them, `count` are inside."""

    low_bits: int
    high_bits: int
    below: int
    count: int
    exact: bool
    """Whether the element asked for is known to be the lower edge itself."""

    @property
    def edge(self) -> float:
        """The lower edge as a number: the threshold where nothing finer is to be had."""
        return float(np.uint32(self.low_bits).view(np.float32))


@dataclass(frozen=True)
class Histogram:
    """edges: uint16[m] ascending, the first pattern (>> 16) of each bin; counts: int64[m], none zero; over:
    int64[m], at most how many of these are above the edge. Deltas between bfloat16 seldom have more than
    eight significant bits, so most are one, and a rank among them is known exactly."""

    edges: npt.NDArray[np.uint16]
    counts: npt.NDArray[np.int64]
    over: npt.NDArray[np.int64]

    @property
    def elements(self) -> int:
        return int(self.counts.sum())

    def bin_of(self, rank: int) -> Bin:
        """The bin of the rank-th smallest |delta|, 1 <= rank <= elements; ValueError otherwise."""
        ends = np.cumsum(self.counts)
        if not 1 <= rank <= int(ends[-1]):
            raise ValueError(f"rank {rank} of {int(ends[-1])} elements")
        j = int(np.searchsorted(ends, rank))
        high = int(self.edges[j + 1]) if j + 1 < self.edges.size else END_BITS
        count = int(self.counts[j])
        below = int(ends[j]) - count
        exact = rank - below <= count - int(self.over[j])
        return Bin(int(self.edges[j]) << 16, high << 16, below, count, exact)


def bins_for(elements: int) -> int:
    """How many bins a tensor of that size is worth: the record must stay small beside the tensor."""
    return min(max(elements // _ELEMENTS_A_BIN, _FEWEST_BINS), _MOST_BINS)


def merged(
    bins: npt.NDArray[np.integer], counts: npt.NDArray[np.int64], over: npt.NDArray[np.int64], most: int
) -> Histogram:
    """Merge neighbouring fine bins (ascending, no zero count) so that about `most` remain.

    Bins end where the running count crosses a multiple of elements / most: a merged bin of several fine ones
    holds at most that many elements more than its first. So the rank is off by at most elements / most
    where only the edge is known, and one heavy fine bin stays alone. Where many elements are the edge
    itself, a bin begins: ranks among them stay exact.
    """
    share = max(1, -(-int(counts.sum()) // most))
    before = np.cumsum(counts) - counts
    heavy, rich = counts >= share, (counts - over) * _RICH >= share
    group = before // share
    starts = np.ones(bins.size, np.bool_)
    starts[1:] = (group[1:] != group[:-1]) | heavy[1:] | heavy[:-1] | rich[1:]
    first = np.flatnonzero(starts)
    totals = np.add.reduceat(counts, first).astype(np.int64)
    return Histogram(bins[first].astype(np.uint16), totals, totals - (counts - over)[first])
