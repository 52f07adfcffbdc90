"""Collects rows as workers finish them, in any order, and turns them into a `DeltaStatistics`.

Relies on observe, histogram and columns. Promises: the order of arrival leaves no trace; a tensor of which a
row is lacking is left out whole; safe to call from several threads.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.ids import ObjectId
from mpstore.statistics.columns import DeltaStatistics, ExpertKind
from mpstore.statistics.histogram import Histogram, bins_for, merged
from mpstore.statistics.observe import SKETCH_WIDTH, Row

_FINE_BINS = 32768
_SCALARS = np.dtype(
    [
        ("equal", np.bool_),
        ("delta_sq", np.float64),
        ("delta_max", np.float32),
        ("dot_base_delta", np.float64),
        ("base_sq", np.float64),
        ("nonfinite", np.int64),
        ("sketch", np.int8, (SKETCH_WIDTH,)),
        ("sketch_scale", np.float32),
    ]
)


class _Tensor:
    """Rows of one tensor. The fine histogram exists only while rows of a tensor of several blocks arrive."""

    def __init__(self, blocks: int, elements: int) -> None:
        self.elements = elements
        self.rows = np.zeros(blocks, _SCALARS)
        self.lacking = blocks
        self.fine: npt.NDArray[np.int64] | None = None
        self.histogram: Histogram | None = None

    def add(self, index: int, row: Row) -> None:
        seen = row.seen
        self.rows[index] = (
            row.equal,
            seen.delta_sq,
            seen.delta_max,
            seen.dot_base_delta,
            seen.base_sq,
            seen.nonfinite,
            seen.sketch,
            seen.sketch_scale,
        )
        self.lacking -= 1
        if self.rows.size > 1 and seen.bins.size:
            if self.fine is None:
                self.fine = np.zeros(_FINE_BINS, np.int64)
            self.fine[seen.bins] += seen.counts
        if self.lacking == 0 and self.fine is not None:
            bins = np.flatnonzero(self.fine)
            self.histogram = merged(bins, self.fine[bins], bins_for(self.elements))
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

    def add(self, key: str, index: int, row: Row) -> None:
        """The row of block `index`. Once each."""
        with self._lock:
            self._tensors[key].add(index, row)

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
        parts = [self._tensors[key].rows for key in keys]
        rows: Any = np.concatenate(parts) if parts else np.zeros(0, _SCALARS)
        offsets = np.zeros(len(keys) + 1, np.int64)
        np.cumsum([part.size for part in parts], out=offsets[1:])
        histograms = {key: h for key in keys if (h := self._tensors[key].histogram) is not None}
        columns = {name: np.ascontiguousarray(rows[name]) for name in _SCALARS.names or ()}
        return DeltaStatistics(
            base_manifest,
            expert_manifest,
            kind,
            self._block_elements,
            tuple(keys),
            offsets,
            **columns,
            histograms=histograms,
        )
