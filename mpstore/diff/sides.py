"""One side of a comparison: a manifest of the store, or a directory.

Relies on repository, checkpoint_dir, safetensors_file and blocks. Promises: block ids come for any partition;
what is read was verified (store) or is what lies in the file now (directory).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import blocks, dtypes
from mpstore.checkpoint_dir import Checkpoint, SourceFile, tensor_keys, tensor_names
from mpstore.dtypes import Dtype
from mpstore.errors import StorageError
from mpstore.ids import ID_BYTES, ObjectId, block_id
from mpstore.records.model import FileEntry, Manifest, TensorRecord
from mpstore.repository import Repo
from mpstore.safetensors_file import TensorInfo

Raw = npt.NDArray[np.uint8]
Rows: TypeAlias = "Sequence[int] | None"
_TOGETHER = 32  # blocks of 256 KiB: 8 MiB are held of a tensor


@dataclass(frozen=True)
class TensorShape:
    """What a comparison knows of a tensor before reading it; block_elements 0: any partition will do."""

    dtype: str
    shape: tuple[int, ...]
    block_elements: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Side(Protocol):
    """Where content comes from."""

    def tensors(self) -> Mapping[str, TensorShape]: ...

    def block_ids(self, key: str, block_elements: int) -> bytes:
        """The ids of the tensor's blocks in that partition, concatenated."""
        ...

    def read(self, key: str, block_elements: int, rows: Rows = None) -> Iterator[Raw]:
        """The tensor's blocks in that partition at ascending `rows` (None: all), in element order.

        Few are held at a time, however large the tensor is.
        """
        ...

    def lacking(self) -> frozenset[str]:
        """Keys of tensors that belong to it, but whose content is not at hand (a partial manifest)."""
        ...

    def files(self) -> Mapping[str, tuple[int, bytes]]:
        """Path -> (size, SHA-256 of what is no tensor: an opaque file, or a safetensors header)."""
        ...


class Stored:
    """A manifest of the store."""

    def __init__(self, repo: Repo, manifest: Manifest, manifest_id: ObjectId) -> None:
        self._repo = repo
        self._manifest = manifest
        self.manifest_id = manifest_id

    @cached_property
    def _records(self) -> Mapping[str, TensorRecord]:
        return self._repo.tensors(self._manifest)

    def tensors(self) -> Mapping[str, TensorShape]:
        return {
            key: TensorShape(record.dtype, record.shape, record.block_elements)
            for key, record in self._records.items()
        }

    def block_ids(self, key: str, block_elements: int) -> bytes:
        record = self._records[key]
        if record.block_elements == block_elements:
            return record.block_ids
        return b"".join(block_id(raw.data) for raw in self.read(key, block_elements))

    def read(self, key: str, block_elements: int, rows: Rows = None) -> Iterator[Raw]:
        record = self._records[key]
        if record.block_elements == block_elements:
            yield from self._in_order(record, range(record.blocks) if rows is None else rows)
            return
        lengths = _lengths(record, block_elements)
        wanted = set(range(len(lengths)) if rows is None else rows)
        for row, raw in enumerate(_cut(self._in_order(record, range(record.blocks)), lengths)):
            if row in wanted:
                yield raw

    def _in_order(self, record: TensorRecord, rows: Sequence[int]) -> Iterator[Raw]:
        """The record's own blocks, read together a few at a time."""
        for start in range(0, len(rows), _TOGETHER):
            part = rows[start : start + _TOGETHER]
            found = dict(self._repo.read_blocks(record, list(part)))
            yield from (found[row] for row in part)

    def lacking(self) -> frozenset[str]:
        return frozenset(key for key, record in self._manifest.tensors.items() if not record)

    def files(self) -> Mapping[str, tuple[int, bytes]]:
        return {entry.path: (entry.size, self._digest(entry)) for entry in self._manifest.files}

    def _digest(self, entry: FileEntry) -> bytes:
        if entry.kind == "opaque" and entry.sha256:
            return entry.sha256
        digest = hashlib.sha256()
        for start in range(0, len(entry.content_ids), ID_BYTES):
            digest.update(self._repo.objects.read(entry.content_ids[start : start + ID_BYTES]))
        return digest.digest()


class Directory:
    """A checkpoint that lies in a directory (or is one safetensors file)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        keys = tensor_keys(tensor_names(checkpoint.headers))
        sources = {file.path: file for file in checkpoint.files}
        self._places: dict[str, tuple[SourceFile, int, TensorInfo]] = {
            key: (sources[path], len(header.raw), entry)
            for path, header in checkpoint.headers.items()
            for key, entry in zip(keys[path], header.tensors, strict=True)
        }

    def tensors(self) -> Mapping[str, TensorShape]:
        return {
            key: TensorShape(entry.dtype.name, entry.shape, 0) for key, (_, _, entry) in self._places.items()
        }

    def block_ids(self, key: str, block_elements: int) -> bytes:
        return b"".join(block_id(raw.data) for raw in self.read(key, block_elements))

    def read(self, key: str, block_elements: int, rows: Rows = None) -> Iterator[Raw]:
        file, header_bytes, entry = self._places[key]
        lengths = list(blocks.byte_lengths(entry.data_bytes, entry.dtype.bits, block_elements))
        with _opened(file) as stream:
            for row in range(len(lengths)) if rows is None else rows:
                stream.seek(header_bytes + entry.start + row * lengths[0])
                raw = stream.read(lengths[row])
                if len(raw) != lengths[row]:
                    raise StorageError(f"{file.source}: shorter than a moment ago")
                yield np.frombuffer(raw, np.uint8)

    def lacking(self) -> frozenset[str]:
        return frozenset()

    def files(self) -> Mapping[str, tuple[int, bytes]]:
        found = {}
        for file in self._checkpoint.files:
            header = self._checkpoint.headers.get(file.path)
            digest = _sha256(file) if header is None else hashlib.sha256(header.raw).digest()
            found[file.path] = (file.size, digest)
        return found

    def sha256(self, path: str) -> bytes:
        """Of a whole file."""
        return next(_sha256(file) for file in self._checkpoint.files if file.path == path)


def _lengths(record: TensorRecord, block_elements: int) -> list[int]:
    """Bytes of each block in another partition than the record's own."""
    dtype = dtypes.known(record.dtype)
    data_bytes = dtypes.tensor_bytes(dtype, math.prod(record.shape)) or 0
    return list(blocks.byte_lengths(data_bytes, dtype.bits, block_elements))


def _cut(pieces: Iterable[Raw], lengths: Sequence[int]) -> Iterator[Raw]:
    """The same bytes in pieces of other lengths."""
    rest: list[Raw] = []
    have, source = 0, iter(pieces)
    for length in lengths:
        while have < length:
            rest.append(next(source))
            have += rest[-1].size
        joined = np.concatenate(rest) if len(rest) > 1 else rest[0]
        yield joined[:length]
        rest, have = [joined[length:]], have - length


def _opened(file: SourceFile) -> Any:
    try:
        return open(file.source, "rb")
    except OSError as error:
        raise StorageError(f"{file.source}: {error.strerror or error}") from error


def _sha256(file: SourceFile) -> bytes:
    with _opened(file) as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def is_float(tensor: TensorShape) -> Dtype | None:
    """The dtype, if a difference of such tensors is a number."""
    dtype = dtypes.of(tensor.dtype)
    return dtype if dtype is not None and dtype.is_float else None


__all__ = ["Directory", "Raw", "Side", "Stored", "TensorShape", "is_float"]
