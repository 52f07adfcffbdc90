"""The base's side of an ingest: for each block that comes in, the base's block of the same place.

Relies on repository and store. Promises: a base block is read only when asked for, verified; only tensors of
the same shape are paired.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import dtypes
from mpstore.dtypes import Dtype
from mpstore.ids import ObjectId
from mpstore.records.model import TensorRecord
from mpstore.repository import Repo
from mpstore.store import Locations, ObjectStore
from mpstore.store.layout import pack_name

Bytes: TypeAlias = npt.NDArray[np.uint8]
_AHEAD_BYTES: Final = 32 << 20
_PIECE_BLOCKS: Final = 32


_Load: TypeAlias = "Future[Mapping[int, Bytes]]"


class _Loaded(NamedTuple):
    """A block that was loaded together with others, as `row` of them."""

    load: _Load
    row: int


class SharedBlocks:
    """Decoded blocks that several experts of one base ask for at about the same time: decoded once for all of
    them. Keeps `limit_bytes` of them, those asked for last. For any number of threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: dict[ObjectId, _Loaded] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def read(
        self, wanted: Mapping[int, ObjectId], load: Callable[[Sequence[int]], Mapping[int, Bytes]]
    ) -> dict[int, Bytes]:
        """The blocks by row; `load` reads rows, and what it raises, everybody who waits for them gets."""
        found: dict[int, _Loaded] = {}
        own: list[int] = []
        future: _Load = Future()
        with self._lock:
            for row, block in wanted.items():
                kept = self._kept.pop(block, None)
                if kept is None:
                    kept = _Loaded(future, row)
                    own.append(row)
                self._kept[block] = found[row] = kept  # asked for last
        if own:
            self._load(own, wanted, future, load)
        loads = {load: load.result() for load, _ in found.values()}
        return {row: loads[load][source] for row, (load, source) in found.items()}

    def _load(
        self,
        own: list[int],
        wanted: Mapping[int, ObjectId],
        future: _Load,
        load: Callable[[Sequence[int]], Mapping[int, Bytes]],
    ) -> None:
        try:
            loaded = load(own)
        except BaseException as error:
            with self._lock:
                for row in own:
                    self._kept.pop(wanted[row], None)
            future.set_exception(error)
            raise
        future.set_result(loaded)
        with self._lock:
            self._kept_bytes += sum(raw.size for raw in loaded.values())
            for block in list(self._kept):
                if self._kept_bytes <= self._limit_bytes:
                    break
                kept = self._kept[block]
                if kept.load.done():
                    del self._kept[block]
                    self._kept_bytes -= kept.load.result()[kept.row].size


@dataclass(frozen=True)
class BaseTensor:
    """A tensor of the base and where its blocks lie. `shared`: where others look for them, too."""

    record: TensorRecord
    dtype: Dtype
    places: Locations
    store: ObjectStore
    shared: SharedBlocks | None = None

    def block(self, index: int) -> ObjectId:
        return self.record.block(index)

    def packs(self, rows: Sequence[int]) -> list[str | None]:
        """The name of each one's pack (rows: neighbours), where it leans on nothing; None: none was seen."""
        own = slice(rows[0], rows[-1] + 1)
        numbers = self.places.pack[own].tolist()
        names = {number: pack_name(self.store.packs.ids[number]) for number in set(numbers)}
        return [
            names[n] if alone else None for n, alone in zip(numbers, self.alone[own].tolist(), strict=True)
        ]

    @cached_property
    def alone(self) -> npt.NDArray[np.bool_]:
        """bool[blocks]: which were found, leaning on nothing."""
        return self.places.found & ~self.places.based

    def read(self, rows: Sequence[int]) -> dict[int, Bytes]:
        """The decoded blocks at `rows`, neighbours read together. DamagedError: one is missing or damaged."""
        if self.shared is None:
            return self._read(rows)
        return self.shared.read({row: self.block(row) for row in rows}, self._read)

    def _read(self, rows: Sequence[int]) -> dict[int, Bytes]:
        there = [row for row in rows if self.places.found[row]]
        frames = list(self.store.fetch(self.places, there, "base"))
        decoded = self.store.decode_many(frames)
        found = {frame.row: raw for frame, raw in zip(frames, decoded, strict=True)}
        for row in rows:
            if row not in found:
                found[row] = np.frombuffer(self.store.read(self.block(row), "base"), np.uint8)
        return found


class BaseTensors:
    """The tensors of a base manifest by key; an empty one where there is no base."""

    def __init__(self, repo: Repo, manifest: ObjectId | None, shared: SharedBlocks | None = None) -> None:
        self._store = repo.objects
        self._shared = shared
        self._block_elements = repo.config.block_elements
        self._records: Mapping[str, TensorRecord] = {}
        if manifest is not None:
            self._records = repo.tensors(repo.manifest(manifest))

    def find(self, key: str, shape: tuple[int, ...]) -> BaseTensor | None:
        """The base's tensor of that key if it has that shape and is cut into blocks of today's size."""
        record = self._records.get(key)
        if record is None or record.shape != shape or record.block_elements != self._block_elements:
            return None
        dtype = dtypes.of(record.dtype)
        if dtype is None:
            return None
        return BaseTensor(record, dtype, self._store.locate(record.block_ids), self._store, self._shared)

    def has(self, key: str) -> bool:
        return key in self._records


class BaseAhead:
    """Keeps the disk reading the base's blocks that come next. For the thread that reads one file.

    Takes (position in the file's data, base tensor or None) of the file's tensors, in file order.
    """

    def __init__(self, tensors: Iterable[tuple[int, BaseTensor | None]]) -> None:
        self._next = _pieces(tensors)
        self._piece = next(self._next, None)

    def advance(self, position: int) -> None:
        """The reader is at `position`."""
        while self._piece is not None and self._piece[0] <= position + _AHEAD_BYTES:
            _, base, rows = self._piece
            base.store.prefetch(base.places, rows)
            self._piece = next(self._next, None)


def _pieces(
    tensors: Iterable[tuple[int, BaseTensor | None]],
) -> Iterator[tuple[int, BaseTensor, npt.NDArray[np.int64]]]:
    for start, base in tensors:
        if base is not None:
            block_bytes = base.record.block_elements * base.dtype.bits // 8
            for first in range(0, base.record.blocks, _PIECE_BLOCKS):
                rows = np.arange(first, min(first + _PIECE_BLOCKS, base.record.blocks))
                yield start + first * block_bytes, base, rows
