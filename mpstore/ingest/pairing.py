"""What comes in beside the base: which tensor pairs with which, and the statistics of the pair.

Relies on base_tensors, tensor_work and statistics. Promises: a key is measured once, from the file that owns
it in the manifest; what was not at hand when the checkpoint came in is read from the store.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mpstore import blocks
from mpstore.ids import ObjectId
from mpstore.ingest.base_tensors import BaseTensors, SharedBlocks
from mpstore.ingest.tensor_work import TensorWork
from mpstore.pipeline import OrderedPipeline
from mpstore.records.model import CommitKind, Manifest
from mpstore.repository import Repo
from mpstore.safetensors_file import TensorInfo
from mpstore.statistics import Collector, Row, to_columns
from mpstore.statistics.columns import ExpertKind
from mpstore.statistics.stored import comparable, measure_stored
from mpstore.store import ObjectWriter

_DEPTH: Final = 16


class Pairing:
    """The base (None: there is none) and the rows gathered against it. For any number of threads."""

    def __init__(
        self,
        repo: Repo,
        base_manifest: ObjectId | None,
        kind: CommitKind,
        shared: SharedBlocks | None = None,
    ) -> None:
        self._repo = repo
        self._base_manifest = None if kind == "lora" else base_manifest  # an adapter has tensors of its own
        self._kind: ExpertKind = "delta" if kind == "delta" else "full"
        self._base = BaseTensors(repo, self._base_manifest, shared)
        self._collector = Collector(repo.config.block_elements)
        self._measured: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def base_manifest(self) -> ObjectId | None:
        return self._base_manifest

    def work(self, writer: ObjectWriter, key: str, tensor: TensorInfo, path: str) -> TensorWork:
        """What workers do with the tensor's blocks. The first file that brings a key is the one measured."""
        base = self._base.find(key, tensor.shape)
        with self._lock:
            measure = base is not None and key not in self._measured
            if measure:
                self._measured[key] = path
                count = blocks.count(tensor.elements, self._repo.config.block_elements)
                self._collector.expect(key, count, tensor.elements)
        return TensorWork(writer, tensor.dtype, base, measure, self._kind == "full")

    def add(self, key: str, index: int, rows: Sequence[Row]) -> None:
        """The rows of blocks `index` and on, as `work` gave them."""
        self._collector.add(key, index, *rows)

    def put_statistics(
        self,
        writer: ObjectWriter,
        pool: ThreadPoolExecutor,
        manifest: Manifest,
        manifest_id: ObjectId,
        owners: Mapping[str, str],
    ) -> ObjectId | None:
        """The record of the pair's statistics, put; None: no base, nothing in common, or known already.

        `owners`: manifest key -> path of the file that it is of.
        """
        base = self._base_manifest
        if base is None or base == manifest_id:
            return None
        for key, path in self._measured.items():
            if owners.get(key) != path:
                self._collector.discard(key)
        lacking = [
            key for key in manifest.tensors if not self._collector.complete(key) and self._base.has(key)
        ]
        if lacking and self._repo.statistics(base, manifest_id) is not None:
            return None
        if lacking:
            writer.flush()
            self._measure(pool, manifest, lacking)
        pair = self._collector.finish(base, manifest_id, self._kind)
        return self._repo.put(writer, to_columns(pair)) if pair.keys else None

    def _measure(self, pool: ThreadPoolExecutor, manifest: Manifest, keys: list[str]) -> None:
        store, difference = self._repo.objects, self._kind == "full"
        with OrderedPipeline(pool, _DEPTH) as pipeline:
            for key in keys:
                record = self._repo.tensor(manifest.tensors[key])
                base = self._base.find(key, record.shape)
                if base is not None and comparable(base.record, record):
                    measure_stored(store, pipeline, self._collector, key, base.record, record, difference)
