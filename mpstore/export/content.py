"""One file of a manifest as a run of blocks that can be read anywhere, in order, ahead of the reader.

Relies on repository, store and the pipeline. Promises: every block is verified against its id, unless who
reads has another proof; the bases that blocks lean on are decoded once a group; memory is bounded by a few
groups of a few MB.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import blocks
from mpstore.errors import DamagedError
from mpstore.ids import ID_BYTES, ObjectId, short
from mpstore.records.model import FileEntry, Manifest, TensorRecord
from mpstore.records.unfetched import never_fetched
from mpstore.repository import Repo
from mpstore.store import NO_BASE, Locations, ObjectStore

Bytes: TypeAlias = npt.NDArray[np.uint8]
GROUP_BYTES: Final = 4 << 20
GROUPS_PER_THREAD: Final = 3


@dataclass(frozen=True)
class _Places:
    """Where blocks lie and, row by row, what they lean on (not found where it is nothing); `sound`: bool[n],
    which of these lean on nothing themselves."""

    own: Locations
    bases: Locations
    sound: npt.NDArray[np.bool_]

    def leant_on(self, rows: Sequence[int]) -> dict[ObjectId, int]:
        """The blocks that those at `rows` lean on, each once, and the row of `bases` that speaks of it."""
        found = {self.own.base_ids[row].tobytes(): row for row in rows}
        found.pop(NO_BASE, None)
        return found


class BlockRun:
    """Blocks laid end to end: `ids` concatenated, `lengths` in bytes."""

    def __init__(self, store: ObjectStore, ids: bytes, lengths: Sequence[int]) -> None:
        self._store = store
        self._ids = ids
        self.lengths = np.asarray(lengths, np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._places: _Places | None = None
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return int(self.offsets[-1])

    def id(self, row: int) -> ObjectId:
        return self._ids[row * ID_BYTES : (row + 1) * ID_BYTES]

    def groups(self, start: int = 0, stop: int | None = None) -> list[range]:
        """Rows of the blocks that touch bytes [start, stop), in runs of some MB."""
        end = self.size if stop is None else min(stop, self.size)
        if start >= end:
            return []
        first = int(np.searchsorted(self.offsets, start, "right")) - 1
        last = int(np.searchsorted(self.offsets, end, "left"))
        found, begin = [], first
        for row in range(first, last):
            if self.offsets[row + 1] - self.offsets[begin] >= GROUP_BYTES:
                found.append(range(begin, row + 1))
                begin = row + 1
        return [*found, range(begin, last)] if begin < last else found

    def read(self, rows: Sequence[int], *, verify: bool = True) -> list[Bytes]:
        """The decoded blocks at `rows` (ascending), in that order; `verify` as in `ObjectStore.decode_many`.
        DamagedError: missing, damaged, or of another length than they should have."""
        places = self._located()
        bases = self._bases(places, rows, verify)
        found: dict[int, Bytes] = {}
        fetched = self._store.fetch(places.own, list(rows), "other")
        frames = [frame.of_length(int(self.lengths[frame.row])) for frame in fetched]
        for frame, raw in zip(frames, self._store.decode_many(frames, bases, verify=verify), strict=True):
            if raw.size != self.lengths[frame.row]:
                expected = self.lengths[frame.row]
                raise DamagedError(f"block {short(frame.id)} has {raw.size} bytes, expected {expected}")
            found[frame.row] = raw
        return [found[row] for row in rows]

    def prefetch(self, rows: Sequence[int]) -> None:
        """Have the disk bring the blocks at `rows`, and what they lean on, which will be read soon."""
        places = self._located()
        self._store.prefetch(places.own, rows)
        if leant_on := places.leant_on(rows):
            self._store.prefetch(places.bases, list(leant_on.values()))

    def _located(self) -> _Places:
        """Looked up for all blocks at once, by the first thread that asks."""
        with self._lock:
            if self._places is None:
                own = self._store.locate(self._ids)
                for row in np.flatnonzero(~own.found):
                    self._store.find(self.id(int(row)))  # looks wherever it could be, and says what is wrong
                if not own.found.all():
                    own = self._store.locate(self._ids)
                bases = self._store.locate(own.base_ids.tobytes())
                self._places = _Places(own, bases, bases.found & ~bases.based)
            return self._places

    def _bases(self, places: _Places, rows: Sequence[int], verify: bool) -> Mapping[ObjectId, Bytes]:
        """The blocks that these lean on, each once; what is odd about one the store will say."""
        there = places.leant_on(rows)
        wanted = [row for row in there.values() if places.sound[row]]
        if not wanted:
            return {}
        frames = list(self._store.fetch(places.bases, wanted, "base"))
        raws = self._store.decode_many(frames, verify=verify)
        return dict(zip((frame.id for frame in frames), raws, strict=True))


def joined(raws: Sequence[Bytes]) -> list[Bytes]:
    """Arrays that lie behind each other in the memory of one as longer ones: blocks decoded together do, and
    what is written or hashed by the piece waits for the interpreter at every piece."""
    found: list[Bytes] = []
    end = -1
    for raw in raws:
        at = _address(raw)
        # The base of a view of a view, too, is the array that owns the memory.
        if at == end and found[-1].base is raw.base and _is_plain(raw.base):
            whole: Any = raw.base
            start = end - found[-1].size - _address(whole)
            found[-1] = whole[start : start + found[-1].size + raw.size]
        else:
            found.append(raw)
        end = at + raw.size
    return found


def _is_plain(array: Any) -> bool:
    """Whether it is bytes without gaps."""
    return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.strides == (1,)


def _address(array: Bytes) -> int:
    at: int = array.__array_interface__["data"][0]
    return at


@dataclass(frozen=True)
class FileContent:
    """The bytes of a file: `prefix`, which is at hand, and the blocks after it. sha256 b"": not known."""

    path: str
    sha256: bytes
    prefix: bytes
    run: BlockRun

    @property
    def size(self) -> int:
        return len(self.prefix) + self.run.size

    def stream(self, start: int = 0, stop: int | None = None, threads: int = 1) -> Iterator[memoryview]:
        """Bytes [start, stop) in order, decoded ahead in threads. Blocks are verified, the SHA-256 is not."""
        end = self.size if stop is None else min(stop, self.size)
        head = len(self.prefix)
        if start < min(head, end):
            yield memoryview(self.prefix)[start:end]
        with ThreadPoolExecutor(threads, thread_name_prefix="mp-decode") as pool:
            for row, raw in self._ahead(pool, threads * GROUPS_PER_THREAD, max(0, start - head), end - head):
                at = head + int(self.run.offsets[row])
                yield raw.data[max(0, start - at) : end - at]

    def _ahead(
        self, pool: ThreadPoolExecutor, depth: int, start: int, stop: int
    ) -> Iterator[tuple[int, Bytes]]:
        waiting: deque[tuple[range, Future[list[Bytes]]]] = deque()
        groups = iter(self.run.groups(start, stop))
        try:
            while True:
                while len(waiting) < depth and (rows := next(groups, None)) is not None:
                    waiting.append((rows, pool.submit(self.run.read, rows)))
                if not waiting:
                    return
                rows, future = waiting.popleft()
                yield from zip(rows, future.result(), strict=True)
        finally:
            for _, future in waiting:
                future.cancel()


def file_content(repo: Repo, manifest: Manifest, entry: FileEntry) -> FileContent:
    """The content of a file of the manifest. DamagedError: they contradict each other; NotFoundError: a
    tensor was never fetched."""
    records = tensor_records(repo, manifest, entry.tensors, entry.path)
    lengths = [length for record in records for length in tensor_lengths(repo, record)]
    head = entry.size - sum(lengths)
    count = blocks.count(max(head, 0), blocks.OPAQUE_BLOCK_BYTES)
    if head < 0 or count * ID_BYTES != len(entry.content_ids):  # before a list of so many is made
        raise DamagedError(f"{entry.path}: its tensors and its {entry.size} bytes do not fit each other")
    before = list(blocks.byte_lengths(head, 8, blocks.OPAQUE_BLOCK_BYTES))
    ids = entry.content_ids + b"".join(record.block_ids for record in records)
    return FileContent(entry.path, entry.sha256, b"", BlockRun(repo.objects, ids, before + lengths))


def tensor_records(repo: Repo, manifest: Manifest, keys: Sequence[str], path: str) -> list[TensorRecord]:
    """The records of tensors of the file `path`. NotFoundError: one was never fetched."""
    ids = []
    for key in keys:
        record_id = manifest.tensors.get(key)
        if record_id is None:
            raise DamagedError(f"{path}: its manifest lacks tensor {key!r}")
        ids.append(record_id)
    if lacking := [key for key, record_id in zip(keys, ids, strict=True) if not record_id]:
        raise never_fetched(repo, manifest, lacking, path)
    found = repo.load_many(TensorRecord, ids)
    return [found[record_id] for record_id in ids]


def tensor_lengths(repo: Repo, record: TensorRecord) -> list[int]:
    """Bytes of each block; DamagedError where the record has another number of blocks than its shape."""
    lengths = repo.block_lengths(record)
    if len(lengths) != record.blocks:
        raise DamagedError(f"a tensor of shape {record.shape} has {record.blocks} blocks, not {len(lengths)}")
    return lengths
