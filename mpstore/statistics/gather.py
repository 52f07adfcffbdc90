"""Collects rows as workers finish them, in any order, and turns them into a `DeltaStatistics`.

Relies on observe, histogram and columns. Promises: the order of arrival leaves no trace; a tensor of which a
row is lacking is left out whole; safe to call from several threads.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.ids import ObjectId
from mpstore.statistics.columns import DeltaStatistics, ExpertKind
from mpstore.statistics.histogram import Histogram, bins_for, merged
from mpstore.statistics.observe import SKETCH_WIDTH, Row

_FINE_BINS: Final = 32768
_NO_BINS: Final = np.zeros(0, np.uint16)
_NO_COUNTS: Final = np.zeros(0, np.uint32)


class _Tensor:
    """Rows of one tensor. The fine histogram exists only while rows of a tensor of several blocks arrive."""

    def __init__(self, blocks: int, elements: int) -> None:
        self.elements = elements
        self.rows: list[Row | None] = [None] * blocks
        self.lacking = blocks
        self.fine: npt.NDArray[np.int64] | None = None  # counts of all, and of those over the edge
        self.histogram: Histogram | None = None

    def add(self, index: int, row: Row) -> None:
        seen = row.seen
        if seen.bins.size:  # of blocks observed together the first has those of all
            if len(self.rows) > 1:
                if self.fine is None:
                    self.fine = np.zeros((2, _FINE_BINS), np.int64)
                self.fine[0, seen.bins] += seen.counts
                self.fine[1, seen.bins] += seen.over
            row = Row(
                row.equal, seen._replace(bins=_NO_BINS, counts=_NO_COUNTS, over=_NO_COUNTS)
            )  # they are large
        self.rows[index] = row
        self.lacking -= 1
        if self.lacking == 0 and self.fine is not None:
            bins = np.flatnonzero(self.fine[0])
            counts, over = self.fine[:, bins]
            self.histogram = merged(bins, counts, over, bins_for(self.elements))
            self.fine = None


class Collector:
    """Rows of one (base, expert) pair."""

    def __init__(self, block_elements: int) -> None:
        self._block_elements = block_elements
        self._tensors: dict[str, _Tensor] = {}
        self._lock = threading.Lock()

    def expect(self, key: str, blocks: int, elements: int) -> None:
        """A tensor of so many blocks is coming. Once, before its rows."""
        with self._lock:
            self._tensors[key] = _Tensor(blocks, elements)

    def add(self, key: str, index: int, *rows: Row) -> None:
        """The rows of blocks `index` and on. Once each."""
        with self._lock:
            tensor = self._tensors[key]
            for place, row in enumerate(rows, index):
                tensor.add(place, row)

    def complete(self, key: str) -> bool:
        """Whether every row of the tensor has come."""
        with self._lock:
            return key in self._tensors and self._tensors[key].lacking == 0

    def discard(self, key: str) -> None:
        """Forget a tensor; it may be unknown."""
        with self._lock:
            self._tensors.pop(key, None)

    def finish(self, base_manifest: ObjectId, expert_manifest: ObjectId, kind: ExpertKind) -> DeltaStatistics:
        """The statistics of every tensor that is complete."""
        keys = sorted(key for key, tensor in self._tensors.items() if tensor.lacking == 0)
        tensors = [self._tensors[key] for key in keys]
        offsets = np.zeros(len(keys) + 1, np.int64)
        np.cumsum([len(tensor.rows) for tensor in tensors], out=offsets[1:])
        rows = [row for tensor in tensors for row in tensor.rows if row is not None]
        seen = [row.seen for row in rows]
        sketch = np.zeros((len(rows), SKETCH_WIDTH), np.int8)
        for at, one in enumerate(seen):
            sketch[at] = one.sketch
        return DeltaStatistics(
            base_manifest,
            expert_manifest,
            kind,
            self._block_elements,
            tuple(keys),
            offsets,
            equal=np.array([row.equal for row in rows], np.bool_),
            delta_sq=np.array([one.delta_sq for one in seen], np.float64),
            delta_max=np.array([one.delta_max for one in seen], np.float32),
            dot_base_delta=np.array([one.dot_base_delta for one in seen], np.float64),
            base_sq=np.array([one.base_sq for one in seen], np.float64),
            nonfinite=np.array([one.nonfinite for one in seen], np.int64),
            sketch=sketch,
            sketch_scale=np.array([one.sketch_scale for one in seen], np.float32),
            histograms={key: t.histogram for key, t in zip(keys, tensors, strict=True) if t.histogram},
        )
