"""Reading what a plan names, each frame once, and keeping it until it is merged.

Relies on the store and files. Promises: a `SpanRead` fetches the selected frames of a run of blocks and the
delta bases they lean on, nothing else; a `Hold` keeps what was read in memory, and past its bound in a
scratch file of the repository's tmp/, so that nothing is read from a pack a second time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from mpstore import files
from mpstore.errors import DamagedError, StorageError
from mpstore.ids import ObjectId
from mpstore.merge.execute.work import Rows, Stored, TensorWork
from mpstore.store import NO_BASE, ObjectStore, Piece

P = TypeVar("P")
Q = TypeVar("Q")


class BlockPieces(NamedTuple, Generic[P]):
    """Everything stored that one block needs: what was read for the base, per expert (or None), and for delta
    bases that are not the base's own block, by id."""

    base: P
    experts: tuple[P | None, ...]
    foreign: Mapping[ObjectId, P]

    def map(self, change: Callable[[P], Q]) -> BlockPieces[Q]:
        """The same with every piece changed."""
        experts = tuple(None if piece is None else change(piece) for piece in self.experts)
        foreign = {own_id: change(piece) for own_id, piece in self.foreign.items()}
        return BlockPieces(change(self.base), experts, foreign)


def encoded_bytes(pieces: BlockPieces[Piece]) -> int:
    """What was read for a block."""
    experts = sum([piece.data.nbytes for piece in pieces.experts if piece is not None])
    return pieces.base.data.nbytes + experts + sum(piece.data.nbytes for piece in pieces.foreign.values())


class SpanRead:
    """What is stored of a run of blocks while its sources are read by several threads."""

    def __init__(self, store: ObjectStore, work: TensorWork, blocks: Rows) -> None:
        self._store = store
        self._work = work
        self.blocks = blocks
        self._pieces: list[dict[int, Piece]] = [{} for _ in range(1 + len(work.experts))]
        self._foreign: dict[ObjectId, Piece] = {}

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
        into, numbers = self._pieces[place], stored.numbers
        for piece in self._store.pieces(stored.locations, stored.rows(self.blocks), purpose):
            into[numbers[piece.row]] = piece

    def _read_foreign(self, ids: list[ObjectId], purpose: str) -> None:
        locations = self._work.foreign_locations
        assert locations is not None
        rows = np.array([self._work.foreign[own_id] for own_id in ids], np.int64)
        for piece in self._store.pieces(locations, rows, purpose):
            self._foreign[piece.id] = piece

    def block(self, block: int) -> BlockPieces[Piece]:
        """One block's pieces, once all parts are read."""
        base = self._pieces[0].pop(block)
        experts = tuple([found.pop(block, None) for found in self._pieces[1:]])
        foreign = {}
        if self._foreign:
            for piece in (base, *experts):
                leaned = NO_BASE if piece is None else self._store.frame(piece).base
                if leaned in self._foreign:
                    foreign[leaned] = self._foreign[leaned]
        return BlockPieces(base, experts, foreign)


@dataclass(frozen=True)
class _Spilled:
    """A piece whose bytes lie in the scratch file."""

    piece: Piece
    offset: int
    length: int


class Scratch:
    """A file in tmp/ for what was read and memory cannot keep; made when first needed. Any thread."""

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

    def put(self, piece: Piece) -> _Spilled:
        """Write the bytes; the piece that is kept has none."""
        data = piece.data
        with self._lock:
            if self._file is None:
                self._file = files.StagedFile(Path(self._tmp_dir), durable=False)
                self._fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
            offset = self._end
            self._end += data.nbytes
        self._file.write_at(offset, data)
        return _Spilled(piece._replace(data=memoryview(b"")), offset, data.nbytes)

    def get(self, spilled: _Spilled) -> Piece:
        """The piece as it was; damage to the scratch file shows when the content is verified."""
        try:
            data = os.pread(self._fd, spilled.length, spilled.offset)
        except OSError as error:
            raise StorageError(f"scratch file: {error.strerror}") from error
        if len(data) != spilled.length:
            raise DamagedError("the scratch file in tmp/ was cut off while a merge used it")
        return spilled.piece._replace(data=memoryview(data))

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
        self._kept: dict[int, BlockPieces[Piece]] = {}
        self._spilled: dict[int, BlockPieces[_Spilled]] = {}

    def put(self, block: int, pieces: BlockPieces[Piece]) -> None:
        """Keep a block, in memory while there is room."""
        size = encoded_bytes(pieces)
        with self._lock:
            fits = size <= self._left
            if fits:
                self._left -= size
        if fits:
            self._kept[block] = pieces
        else:
            self._spilled[block] = pieces.map(self._scratch.put)

    def get(self, block: int) -> tuple[BlockPieces[Piece], bool]:
        """The block's pieces, and whether they never left the memory."""
        kept = self._kept.get(block)
        return (self._spilled[block].map(self._scratch.get), False) if kept is None else (kept, True)

    def drop(self, block: int) -> None:
        """The block is merged."""
        self._kept.pop(block, None)
        self._spilled.pop(block, None)
