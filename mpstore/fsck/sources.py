"""Other copies that lost objects can be taken from: another repository, or checkpoint directories.

Relies on repository, safetensors_file, checkpoint_dir and blocks. Promises: what a source gives hashes to
the id that was asked for; a source that is damaged itself gives what it can.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mpstore import blocks
from mpstore.checkpoint_dir import NO_CONTENT, SUFFIX
from mpstore.codecs import Format
from mpstore.errors import DamagedError, IncompatibleError, MpError, NotFoundError, StorageError
from mpstore.ids import ObjectId, block_id, record_id
from mpstore.records.encoding import encode
from mpstore.records.model import TensorRecord
from mpstore.regular_file import open_regular
from mpstore.repository import DIRECTORY
from mpstore.safetensors_file import Header, TensorInfo, read_header
from mpstore.store import ObjectStore
from mpstore.store.frame import record_form

Found = tuple[ObjectId, int, bytes]  # id, form byte of its frame, content


class Source(Protocol):
    """Where copies may be."""

    def find(self, wanted: set[ObjectId], block_sizes: Collection[int]) -> Iterator[Found]:
        """Those of the wanted objects that are to be had here. `block_sizes`: in elements, of all blocks of
        tensors that may be among them."""
        ...


def open_source(path: str) -> Source:
    """The repository or directory at `path`. NotFoundError: there is neither."""
    if not os.path.isdir(path):
        raise NotFoundError(f"no directory {path}")
    for root in (os.path.join(path, DIRECTORY), path):
        if os.path.isdir(os.path.join(root, "objects", "packs")):
            return StoreSource(ObjectStore.open(root))
    return DirectorySource(path)


class StoreSource:
    """Another repository."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def find(self, wanted: set[ObjectId], block_sizes: Collection[int]) -> Iterator[Found]:
        del block_sizes  # it is told what it has by ids
        for own_id in sorted(wanted):
            place = self._store.packs.place(own_id)
            if place is None:
                continue
            try:
                raw = bytes(self._store.read(own_id))
            except (DamagedError, StorageError):
                continue
            yield own_id, place.form, raw


class DirectorySource:
    """Every regular file below a directory, cut into blocks as `mp add` would."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self, wanted: set[ObjectId], block_sizes: Collection[int]) -> Iterator[Found]:
        for path in _regular_files(self._path):
            try:
                fd, size = open_regular(path)
            except (MpError, OSError):
                continue
            try:
                yield from _in_file(_File(path, fd, size), wanted, block_sizes)
            except (MpError, OSError):
                continue
            finally:
                os.close(fd)


@dataclass(frozen=True)
class _File:
    path: str
    fd: int
    size: int


def _regular_files(directory: str) -> Iterator[str]:
    """Unlike `checkpoint_dir.list_files`, which refuses a checkpoint with anything odd in it, this leaves out
    what is no file and what cannot be looked at: the rest is no worse for it."""
    waiting = [directory]
    while waiting:
        directory = waiting.pop()
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for path in (os.path.join(directory, name) for name in names if name not in NO_CONTENT):
            if os.path.isfile(path):
                yield path
            elif os.path.isdir(path) and not os.path.islink(path):
                waiting.append(path)


def _in_file(file: _File, wanted: set[ObjectId], block_sizes: Collection[int]) -> Iterator[Found]:
    header = _header(file) if file.path.endswith(SUFFIX) else None
    if header is None:
        yield from _pieces(file, file.size, wanted)
        return
    yield from _pieces(file, len(header.raw), wanted)
    for block_elements in sorted(block_sizes):
        for tensor in header.tensors:
            yield from _in_tensor(file, len(header.raw) + tensor.start, tensor, block_elements, wanted)


def _header(file: _File) -> Header | None:
    """Whatever size the file has: of one that is cut off, the blocks before the cut are as good as ever."""
    try:
        return read_header(partial(os.read, file.fd), file.path)
    except (DamagedError, IncompatibleError):
        return None


def _in_tensor(
    file: _File, start: int, tensor: TensorInfo, block_elements: int, wanted: set[ObjectId]
) -> Iterator[Found]:
    """The blocks of a tensor that lie within the file, and its record if all of them do."""
    dtype = tensor.dtype
    if block_elements * dtype.bits % 8:
        return  # there are no such blocks
    ids = []
    for length in blocks.byte_lengths(tensor.data_bytes, dtype.bits, block_elements):
        if start + length > file.size:
            return
        raw = os.pread(file.fd, length, start)
        start += length
        ids.append(block_id(raw))
        if ids[-1] in wanted:
            yield ids[-1], int(dtype.form), raw
    record = TensorRecord(dtype.name, tensor.shape, block_elements, b"".join(ids))
    data = encode(record)
    own_id = record_id(record.KIND, data)
    if own_id in wanted:
        yield own_id, record_form(record.KIND), data


def _pieces(file: _File, stop: int, wanted: set[ObjectId]) -> Iterator[Found]:
    """The first `stop` bytes as blocks of an opaque file, one at a time: it may be larger than the memory."""
    for start in range(0, stop, blocks.OPAQUE_BLOCK_BYTES):
        piece = os.pread(file.fd, min(blocks.OPAQUE_BLOCK_BYTES, stop - start), start)
        own_id = block_id(piece)
        if own_id in wanted:
            yield own_id, int(Format.BYTES), piece
