"""A LoRA adapter as an expert: its pairs read once, whole, when the first block needs them.

Relies on adapters and repository. Promises: only the adapter's own tensors are read, each once, counted as
expert bytes; deltas are formed block by block and never kept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpstore import dtypes
from mpstore.adapters import Product, Target
from mpstore.errors import IncompatibleError
from mpstore.ids import ObjectId
from mpstore.merge.execute.memo import key_of
from mpstore.merge.execute.work import F32
from mpstore.records.model import TensorRecord
from mpstore.repository import Repo


@dataclass(frozen=True)
class Adapter:
    """An adapter's tensors and, by the base's key, what it has for each."""

    tensors: Mapping[str, TensorRecord]
    targets: Mapping[str, Target]


class FormedProduct:
    """The delta of one pair A, B, as the executor's `Formed`."""

    def __init__(self, repo: Repo, adapter: Adapter, target: Target) -> None:
        self._repo = repo
        self._target = target
        self._records = [adapter.tensors[name] for name in target.sources]
        self._lock = threading.Lock()
        self._product: Product | None = None
        words = [[one.dtype, list(one.shape), one.block_ids] for one in self._records]
        self.source_ids: tuple[ObjectId, ...] = (key_of(words, target.scale, target.transposed),)

    def delta(self, start: int, stop: int, out: F32) -> int:
        """Fill `out` with delta[start:stop]; how many are NaN or infinite."""
        with self._lock:
            if self._product is None:
                a, b = (self._read(record) for record in self._records)
                self._product = Product.of(self._target, a, b)
        return self._product.delta(start, stop, out)

    def _read(self, record: TensorRecord) -> F32:
        dtype = dtypes.of(record.dtype)
        if dtype is None or not dtype.is_float:
            raise IncompatibleError(f"an adapter's tensor of dtype {record.dtype}")
        parts: list[F32] = [np.zeros(0, np.float32)] * record.blocks
        for index, raw in self._repo.read_blocks(record, purpose="expert"):
            parts[index] = dtypes.to_float32(raw, dtype)
        whole = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return whole.reshape(record.shape)
