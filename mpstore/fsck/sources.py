"""Other copies that lost objects can be taken from: another repository, or checkpoint directories.

Relies on repository, safetensors_file, checkpoint_dir and blocks. Promises: what a source gives hashes to
the id that was asked for; a source that is damaged itself gives what it can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mpstore import blocks, checkpoint_dir
from mpstore.codecs import Format
from mpstore.errors import DamagedError, IncompatibleError, MpError, NotFoundError, StorageError
from mpstore.ids import ObjectId, block_id, record_id
from mpstore.records.encoding import encode
from mpstore.records.model import TensorRecord
from mpstore.repository import DIRECTORY, Repo
from mpstore.safetensors_file import Header, read_header
from mpstore.store import ObjectStore
from mpstore.store.frame import record_form

Found = tuple[ObjectId, int, bytes]  # id, form byte of its frame, content


class Source(Protocol):
    """Where copies may be."""

    def find(self, wanted: set[ObjectId]) -> Iterator[Found]:
        """Those of the wanted objects that are to be had here."""
        ...


def open_source(path: str, repo: Repo) -> Source:
    """The repository or directory at `path`. NotFoundError: there is neither."""
    if not os.path.isdir(path):
        raise NotFoundError(f"no directory {path}")
    for root in (os.path.join(path, DIRECTORY), path):
        if os.path.isdir(os.path.join(root, "objects", "packs")):
            return StoreSource(ObjectStore.open(root))
    return DirectorySource(path, repo.config.block_elements)


class StoreSource:
    """Another repository."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def find(self, wanted: set[ObjectId]) -> Iterator[Found]:
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
    """Every file below a directory, cut into blocks as `mp add` would."""

    def __init__(self, path: str, block_elements: int) -> None:
        self._path = path
        self._block_elements = block_elements

    def find(self, wanted: set[ObjectId]) -> Iterator[Found]:
        for file in checkpoint_dir.list_files(self._path):
            try:
                yield from self._in_file(file.source, wanted)
            except (MpError, OSError):
                continue

    def _in_file(self, path: str, wanted: set[ObjectId]) -> Iterator[Found]:
        if path.endswith(".safetensors"):
            with open(path, "rb") as file:
                try:
                    header = read_header(file.read, path, os.path.getsize(path))
                except (DamagedError, IncompatibleError):
                    header = None
            if header is not None:
                yield from _pieces(header.raw, wanted)
                yield from self._in_tensors(path, header, wanted)
                return
        yield from _pieces(Path(path).read_bytes(), wanted)

    def _in_tensors(self, path: str, header: Header, wanted: set[ObjectId]) -> Iterator[Found]:
        with open(path, "rb") as file:
            for tensor in header.tensors:
                dtype = tensor.dtype
                file.seek(len(header.raw) + tensor.start)
                ids = []
                for length in blocks.byte_lengths(tensor.data_bytes, dtype.bits, self._block_elements):
                    raw = file.read(length)
                    ids.append(block_id(raw))
                    if ids[-1] in wanted:
                        yield ids[-1], int(dtype.form), raw
                record = TensorRecord(dtype.name, tensor.shape, self._block_elements, b"".join(ids))
                data = encode(record)
                own_id = record_id(record.KIND, data)
                if own_id in wanted:
                    yield own_id, record_form(record.KIND), data


def _pieces(raw: bytes, wanted: set[ObjectId]) -> Iterator[Found]:
    for start in range(0, len(raw), blocks.OPAQUE_BLOCK_BYTES):
        piece = raw[start : start + blocks.OPAQUE_BLOCK_BYTES]
        own_id = block_id(piece)
        if own_id in wanted:
            yield own_id, int(Format.BYTES), piece
