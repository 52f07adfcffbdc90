"""Facts of one tensor, established while its blocks stream by: exact order statistics and inner products.

Relies on kernels and statistics. Promises: a threshold is the exact order statistic of |delta| over the whole
tensor; counting is over bit patterns and sums run chunk after chunk in element order, so neither the blocks
nor the threads show. Memory: a counter an element, 2^20 at most, a rank and thread, and the chunk sums of
blocks out of order.

A float32 magnitude orders as its bit pattern does. The statistics' bin bounds the pattern of the rank asked
for, so one pass over the patterns inside the bin finds it: collected where they are few; counted where they
are many, which is where the bin is a single value of the upper 16 bits (`statistics.histogram` merges no
other). A large tensor without statistics takes two passes over what is held in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.kernels.execute_numpy import CHUNK
from mpstore.kernels.merge_words_numpy import Search
from mpstore.merge.execute import words
from mpstore.merge.execute.convert import kernel
from mpstore.merge.execute.work import TensorWork
from mpstore.merge.operators import gram
from mpstore.merge.operators.protocol import Facts
from mpstore.statistics import Histogram

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
U32: TypeAlias = npt.NDArray[np.uint32]
Bytes: TypeAlias = npt.NDArray[np.uint8]

MOST_COUNTERS_BITS: Final = 20
FEWEST_COUNTERS_BITS: Final = 10
ALL_PATTERNS: Final = 1 << 31
PATTERNS_A_BIN: Final = 1 << 16
MOST_COLLECTED: Final = 1 << 20


class RankSearch:
    """Narrows the range of bit patterns that holds the rank-th smallest |delta|, one pass at a time."""

    def __init__(self, rank: int, elements: int, histogram: Histogram | None) -> None:
        """`rank` from 1 to `elements`."""
        self._rank = rank
        self._elements = elements
        self._bits = min(max(elements.bit_length(), FEWEST_COUNTERS_BITS), MOST_COUNTERS_BITS)
        self._lock = threading.Lock()
        if histogram is not None and histogram.elements == elements:
            found = histogram.bin_of(rank)
            self._look(found.low_bits, found.high_bits, found.below, found.count)
        else:
            self._look(0, ALL_PATTERNS, 0, elements)

    def _look(self, low: int, high: int, below: int, inside: int) -> None:
        """Prepare a pass over low <= pattern < high, which holds `inside` elements; `below` are smaller."""
        self._low, self._high, self._below = low, high, below
        self._collects = inside <= MOST_COLLECTED and high - low > PATTERNS_A_BIN
        if not self._collects and inside < self._elements and high - low > PATTERNS_A_BIN:
            high = low + PATTERNS_A_BIN  # many, so they share their upper 16 bits
        self._shift = max(0, (high - low - 1).bit_length() - self._bits)
        self._size = -(-(high - low) // (1 << self._shift))
        self._counts: dict[int, U32] = {}
        self._collected: list[U32] = []
        self._zeros = 0

    def observe(self, delta: F32) -> None:
        """Take one block's deltas in. Any thread."""
        if self._collects:
            room = np.empty(delta.size, np.uint32)
            size = kernel().collect_magnitudes(delta, self._low, self._high, room)
            if size:
                with self._lock:
                    self._collected.append(room[:size].copy())
            return
        kernel().count_magnitudes(delta, self._low, self._shift, self._counters())

    def _counters(self) -> U32:
        """This thread's."""
        counts = self._counts.get(threading.get_ident())
        if counts is None:
            counts = np.zeros(self._size, np.uint32)
            with self._lock:
                self._counts[threading.get_ident()] = counts
        return counts

    def words_search(self, item: int) -> Search:
        """This pass, for a kernel that looks at the stored words of expert `item`."""
        if self._collects:
            return Search(item, self._low, self._high, 0, None)
        return Search(item, self._low, self._high, self._shift, self._counters())

    def collect(self, patterns: U32 | None) -> None:
        """Take in what the kernel found. Any thread."""
        if patterns is not None and patterns.size:
            with self._lock:
                self._collected.append(patterns)

    def observe_zeros(self, elements: int) -> None:
        """Count elements that are known to be zero and are not read."""
        with self._lock:
            self._zeros += elements

    def conclude(self) -> float | None:
        """After a pass: the order statistic, or None where another pass is needed."""
        if self._low > 0:
            self._zeros = 0
        return self._of_collected() if self._collects else self._of_counts()

    def _of_collected(self) -> float | None:
        patterns = np.concatenate([np.zeros(0, np.uint32), *self._collected])
        place = self._rank - self._below - self._zeros
        if place > patterns.size or self._rank <= self._below:
            self._start_over()
            return None
        return _as_float(0 if place <= 0 else int(np.partition(patterns, place - 1)[place - 1]))

    def _of_counts(self) -> float | None:
        counts = np.zeros(self._size, np.int64)
        for part in self._counts.values():
            counts += part
        counts[0] += self._zeros
        ends = np.cumsum(counts)
        place = self._rank - self._below
        if not 1 <= place <= int(ends[-1]):
            self._start_over()
            return None
        j = int(np.searchsorted(ends, place))
        low = self._low + (j << self._shift)
        if self._shift == 0:
            return _as_float(low)
        inside = int(counts[j])
        high = min(self._high, low + (1 << self._shift))
        self._look(low, high, self._below + int(ends[j]) - inside, inside)
        return None

    def _start_over(self) -> None:
        """The statistics do not fit the data: from all patterns."""
        self._look(0, ALL_PATTERNS, 0, self._elements)


def _as_float(pattern: int) -> float:
    return float(np.uint32(pattern).view(np.float32))


class GramSum:
    """Inner products of [base, delta_1 .. delta_K]: sums of 64 elements, added in element order."""

    def __init__(self, vectors: int, blocks: Sequence[int]) -> None:
        """`blocks`: the numbers of all blocks that will be observed, ascending."""
        self._pairs = [(i, j) for i in range(vectors) for j in range(i + 1)]
        self._vectors = vectors
        self._total = np.zeros(len(self._pairs), np.float64)
        self._waiting: dict[int, F64] = {}
        self._order = list(blocks)
        self._next = 0
        self._lock = threading.Lock()

    def observe(self, block: int, rows: Sequence[F32 | None]) -> None:
        """Add one block; a row of None is zero. NaN and infinities stay out of all sums. Any thread."""
        size = next(row.size for row in rows if row is not None)
        finite = [None if row is None else _finite(row) for row in rows]
        sums = np.zeros((len(self._pairs), -(-size // CHUNK)), np.float64)
        for p, (i, j) in enumerate(self._pairs):
            left, right = finite[i], finite[j]
            if left is not None and right is not None:
                kernel().dot_chunks(left, right, sums[p])
        with self._lock:
            self._waiting[block] = sums
            while self._next < len(self._order) and self._order[self._next] in self._waiting:
                self._fold(self._waiting.pop(self._order[self._next]))
                self._next += 1

    def _fold(self, sums: F64) -> None:
        ends = np.concatenate([self._total[:, None], sums], axis=1)
        self._total = np.add.accumulate(ends, axis=1)[:, -1]

    def conclude(self) -> F64:
        """The symmetric (vectors, vectors) matrix."""
        matrix = np.zeros((self._vectors, self._vectors), np.float64)
        for value, (i, j) in zip(self._total, self._pairs, strict=True):
            matrix[i, j] = matrix[j, i] = value
        return matrix


def _finite(row: F32) -> F32:
    return gram.finite(row) if kernel().count_nonfinite(row) else row


class FactFinder:
    """The facts of one tensor, over as many passes as they need."""

    def __init__(self, work: TensorWork) -> None:
        self._work = work
        self._words = words.fit(work)
        self._values: list[list[float | None]] = [[None] * len(ranks) for ranks in work.ranks]
        self._searches: list[list[RankSearch | None]] = [
            [RankSearch(rank, work.elements, expert.histogram) for rank in ranks]
            for ranks, expert in zip(work.ranks, work.experts, strict=True)
        ]
        self._of_thread = threading.local()  # what this pass looks for, by which experts a block has
        self._gram: GramSum | None = None
        self._matrix: F64 | None = None
        if work.gram:
            self._gram = GramSum(1 + len(work.experts), work.seen.tolist())
        self._observe_unread()

    def _observe_unread(self) -> None:
        """What is not read of an expert equals the base: zeros."""
        work = self._work
        for expert, searches in zip(work.experts, self._searches, strict=True):
            if not any(searches) or expert.formed is not None:
                continue
            read = expert.stored.blocks.tolist() if expert.stored is not None else []
            unread = work.elements - sum(stop - start for start, stop in map(work.span, read))
            for search in searches:
                if search is not None:
                    search.observe_zeros(unread)

    def wants(self, expert: int) -> bool:
        """Whether this pass needs the expert's deltas."""
        return self._gram is not None or any(self._searches[expert])

    def observe(self, block: int, base: F32, deltas: Sequence[F32 | None]) -> None:
        """One block; a delta of None is zero and, for ranks, has been counted already. Any thread."""
        for delta, searches in zip(deltas, self._searches, strict=True):
            for search in searches:
                if search is not None and delta is not None:
                    search.observe(delta)
        if self._gram is not None:
            self._gram.observe(block, [base, *deltas])

    @property
    def takes_words(self) -> bool:
        """Whether this pass can look at stored words: ranks alone, of 16-bit floats."""
        return self._gram is None and self._words

    def observe_words(self, base: Bytes, experts: Sequence[Bytes | None]) -> None:
        """`observe` of one block as it is stored. Any thread."""
        sources, present = words.sources(self._work, base, experts)
        owners, searches = self._words_searches(present)
        if searches:
            found = kernels.pick("merge_words").search(sources, searches)
            for search, patterns in zip(owners, found, strict=True):
                search.collect(patterns)

    def _words_searches(self, present: tuple[int, ...]) -> tuple[list[RankSearch], tuple[Search, ...]]:
        """This pass over the words of these experts: the same objects for all blocks that a thread sees."""
        known = getattr(self._of_thread, "searches", None)
        if known is None or known[0] != present:
            owners = [
                (search, search.words_search(item))
                for item, place in enumerate(present)
                for search in self._searches[place]
                if search is not None
            ]
            both = [search for search, _ in owners], tuple([one for _, one in owners])
            known = self._of_thread.searches = present, both
        found: tuple[list[RankSearch], tuple[Search, ...]] = known[1]
        return found

    def conclude(self) -> Facts | None:
        """After a pass over all blocks: the facts, or None where another pass is needed. One thread."""
        self._of_thread = threading.local()  # what this pass has found must not stay in memory
        for i, searches in enumerate(self._searches):
            for r, search in enumerate(searches):
                if search is not None:
                    self._values[i][r] = search.conclude()
                    if self._values[i][r] is not None:
                        searches[r] = None
        if self._gram is not None:
            self._matrix, self._gram = self._gram.conclude(), None
        if any(any(searches) for searches in self._searches):
            self._observe_unread()
            return None
        found = tuple(
            tuple(float(value) for value in values if value is not None) if values else edges
            for values, edges in zip(self._values, self._work.edges, strict=True)
        )
        return Facts(found, self._matrix)
