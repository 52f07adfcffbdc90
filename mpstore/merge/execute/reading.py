"""Reading what a plan names, each frame once, and keeping it until it is merged.

Relies on the store and files. Promises: `read_span` fetches the selected frames of a run of blocks and the
delta bases they lean on, nothing else; a `Hold` keeps encoded frames in memory up to its bound and past it
in a scratch file of the repository's tmp/, so nothing is read from a pack a second time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from mpstore import files
from mpstore.errors import DamagedError, StorageError
from mpstore.ids import ObjectId
from mpstore.merge.execute.work import Rows, Stored, TensorWork
from mpstore.store import Frame, ObjectStore
from mpstore.store.frame import split_payload

F = TypeVar("F")
G = TypeVar("G")


@dataclass(frozen=True)
class BlockFrames(Generic[F]):
    """Everything stored that one block needs: the base's frame, per expert its frame or None, and the delta
    bases that are not the base's own block, by id."""

    base: F
    experts: tuple[F | None, ...]
    foreign: Mapping[ObjectId, F]

    def map(self, change: Callable[[F], G]) -> BlockFrames[G]:
        """The same with every frame changed."""
        experts = tuple(None if frame is None else change(frame) for frame in self.experts)
        foreign = {own_id: change(frame) for own_id, frame in self.foreign.items()}
        return BlockFrames(change(self.base), experts, foreign)

    @property
    def encoded_bytes(self: BlockFrames[Frame]) -> int:
        frames = [self.base, *(frame for frame in self.experts if frame is not None), *self.foreign.values()]
        return sum(frame.header.frame_bytes for frame in frames)


class SpanRead:
    """The frames of a run of blocks while its sources are read by several threads."""

    def __init__(self, store: ObjectStore, work: TensorWork, blocks: Rows) -> None:
        self._store = store
        self._work = work
        self.blocks = blocks
        self._frames: list[dict[int, Frame]] = [{} for _ in range(1 + len(work.experts))]
        self._foreign: dict[ObjectId, Frame] = {}

    def parts(self) -> list[Callable[[], None]]:
        """The reads, each for a thread of its own."""
        work = self._work
        found: list[Callable[[], None]] = [
            partial(self._read, place, stored, purpose)
            for place, (stored, purpose) in self._stored()
            if stored.rows(self.blocks).size
        ]
        leaned = work.foreign_of(self.blocks) if work.foreign else {}
        for purpose in ("base", "expert"):
            ids = [own_id for own_id, for_whom in leaned.items() if for_whom == purpose]
            if ids:
                found.append(partial(self._read_foreign, ids, purpose))
        return found

    def _stored(self) -> Iterator[tuple[int, tuple[Stored, str]]]:
        yield 0, (self._work.base, self._work.base_purpose)
        for place, expert in enumerate(self._work.experts):
            if expert.stored is not None:
                yield place + 1, (expert.stored, "expert")

    def _read(self, place: int, stored: Stored, purpose: str) -> None:
        into = self._frames[place]
        for frame in self._store.fetch(stored.locations, stored.rows(self.blocks), purpose):
            into[int(stored.blocks[frame.row])] = frame

    def _read_foreign(self, ids: list[ObjectId], purpose: str) -> None:
        locations = self._work.foreign_locations
        assert locations is not None
        rows = np.array([self._work.foreign[own_id] for own_id in ids], np.int64)
        for frame in self._store.fetch(locations, rows, purpose):
            self._foreign[frame.id] = frame

    def block(self, block: int) -> BlockFrames[Frame]:
        """One block's frames, once all parts are read."""
        base = self._frames[0].pop(block)
        experts = tuple(found.pop(block, None) for found in self._frames[1:])
        foreign = {}
        if self._foreign:
            for frame in (base, *experts):
                if frame is not None and frame.base in self._foreign:
                    foreign[frame.base] = self._foreign[frame.base]
        return BlockFrames(base, experts, foreign)


@dataclass(frozen=True)
class _Spilled:
    """A frame whose payload lies in the scratch file."""

    frame: Frame
    offset: int
    length: int


class Scratch:
    """A file in tmp/ for encoded frames that memory cannot keep; made when first needed. Any thread."""

    def __init__(self, tmp_dir: str) -> None:
        self._tmp_dir = tmp_dir
        self._file: files.StagedFile | None = None
        self._fd = -1
        self._lock = threading.Lock()
        self._end = 0

    @property
    def spilled_bytes(self) -> int:
        """What was written."""
        return self._end

    def put(self, frame: Frame) -> _Spilled:
        """Write the payload; the frame that is kept has none."""
        payload = b"".join(frame.segments)
        with self._lock:
            if self._file is None:
                self._file = files.StagedFile(Path(self._tmp_dir), durable=False)
                self._fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
            offset = self._end
            self._end += len(payload)
        self._file.write_at(offset, payload)
        return _Spilled(frame._replace(segments=()), offset, len(payload))

    def get(self, spilled: _Spilled) -> Frame:
        """The frame as it was; damage to the scratch file shows when the content is verified."""
        try:
            payload = os.pread(self._fd, spilled.length, spilled.offset)
        except OSError as error:
            raise StorageError(f"scratch file: {error.strerror}") from error
        if len(payload) != spilled.length:
            raise DamagedError("the scratch file in tmp/ was cut off while a merge used it")
        frame = spilled.frame
        return frame._replace(segments=split_payload(frame.header, memoryview(payload)))

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            os.close(self._fd)
            self._file.discard()
            self._file = None


class Hold:
    """One tensor's encoded blocks between the pass for facts and the merge. Any thread."""

    def __init__(self, scratch: Scratch, limit_bytes: int) -> None:
        self._scratch = scratch
        self._left = limit_bytes
        self._lock = threading.Lock()
        self._kept: dict[int, BlockFrames[Any]] = {}

    def put(self, block: int, frames: BlockFrames[Frame]) -> None:
        """Keep a block, in memory while there is room."""
        size = frames.encoded_bytes
        with self._lock:
            fits = size <= self._left
            if fits:
                self._left -= size
        self._kept[block] = frames if fits else frames.map(self._scratch.put)

    def get(self, block: int) -> BlockFrames[Frame]:
        """The block's frames."""
        return self._kept[block].map(self._back)

    def _back(self, kept: Frame | _Spilled) -> Frame:
        return self._scratch.get(kept) if isinstance(kept, _Spilled) else kept

    def drop(self, block: int) -> None:
        """The block is merged."""
        self._kept.pop(block, None)
