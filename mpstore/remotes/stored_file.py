"""One file of a manifest as bytes at any offset, decoded from the store as it is read.

Relies on repository. Promises: only the blocks that a range touches are read, each verified against its id;
memory is a few blocks. What a server sends and an upload reads.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mpstore import files
from mpstore.errors import DamagedError, MpError
from mpstore.ids import ID_BYTES, block_id
from mpstore.pipeline import OrderedPipeline
from mpstore.records.model import FileEntry, Manifest, TensorRecord
from mpstore.records.unfetched import never_fetched
from mpstore.regular_file import read_regular
from mpstore.repository import Repo

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_AHEAD: Final = 4
_CACHE: Final = "sha256"


class StoredFile:
    """One file of a manifest. `size` in bytes; `ids` of its blocks; `starts` their offsets."""

    def __init__(self, repo: Repo, manifest: Manifest, entry: FileEntry) -> None:
        self.repo = repo
        self.entry = entry
        self.size = entry.size
        self.ids = self._block_ids(manifest)
        located = repo.objects.seek(self.ids)
        if not located.found.all():
            raise DamagedError(
                f"{entry.path}: blocks of it are missing from the store", hint="mp fsck says what is damaged"
            )
        lengths = located.raw_bytes.astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        if int(self.starts[-1]) != self.size:
            raise DamagedError(f"{entry.path}: its blocks have {int(self.starts[-1])} bytes, not {self.size}")

    def _block_ids(self, manifest: Manifest) -> bytes:
        records = [manifest.tensors[key] for key in self.entry.tensors]
        lacking = [key for key, record in zip(self.entry.tensors, records, strict=True) if not record]
        if lacking:
            raise never_fetched(self.repo, manifest, lacking, self.entry.path)
        found = self.repo.load_many(TensorRecord, records)
        return self.entry.content_ids + b"".join(found[record].block_ids for record in records)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """Bytes [start, stop) in pieces of at most a block; a few blocks are decoded ahead."""
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return
        first = int(np.searchsorted(self.starts, start, "right")) - 1
        last = int(np.searchsorted(self.starts, stop, "left"))
        ready: list[memoryview] = []
        with (
            ThreadPoolExecutor(2, thread_name_prefix="mp-read") as pool,
            OrderedPipeline(pool, _AHEAD) as pipeline,
        ):
            for index in range(first, last):
                pipeline.submit(lambda index=index: self._block(index), ready.append)  # type: ignore[misc]
                while ready:
                    yield self._cut(ready.pop(0), first, start, stop)
                    first += 1
            pipeline.drain()
            while ready:
                yield self._cut(ready.pop(0), first, start, stop)
                first += 1

    def _block(self, index: int) -> memoryview:
        return memoryview(self.repo.objects.read(self.ids[index * ID_BYTES : (index + 1) * ID_BYTES]))

    def _cut(self, block: memoryview, index: int, start: int, stop: int) -> memoryview:
        at = int(self.starts[index])
        return block[max(0, start - at) : stop - at]

    def sha256(self) -> bytes:
        """SHA-256 of the file: recorded when added; of a merged file computed once, kept in cache/."""
        if self.entry.sha256:
            return self.entry.sha256
        name = block_id(self.entry.path.encode() + self.ids).hex()
        kept = Path(self.repo.root, "cache", _CACHE, name)
        try:
            known = read_regular(kept)
        except (OSError, DamagedError):
            known = b""
        if len(known) == 32:
            return known
        digest = hashlib.sha256()
        for piece in self.read():
            digest.update(piece)
        try:
            files.make_directories(kept.parent, within=self.repo.root)
            files.write_whole(kept, digest.digest(), Path(self.repo.root, "tmp"), durable=False)
        except (OSError, MpError):
            pass  # a read-only repository is served all the same
        return digest.digest()

    def git_blob_id(self) -> str:
        """Git's SHA-1 of the file as a blob: how the Hub lists small files."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for piece in self.read():
            digest.update(piece)
        return digest.hexdigest()


class StoredStream(io.BufferedIOBase):
    """A stored file as a seekable stream, as the Hub's client takes uploads. Sequential reads are fast.
    `taken` hears of the bytes that are read."""

    def __init__(self, stored: StoredFile, taken: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self._taken = taken
        self._stored = stored
        self._position = 0
        self._pieces: Iterator[memoryview] | None = None
        self._left = memoryview(b"")
        self._lock = threading.Lock()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._stored.size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        with self._lock:
            if start + offset != self._position:
                self._position = start + offset
                self._forget()
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._stored.size if size is None or size < 0 else size
        parts = []
        with self._lock:
            while wanted > 0:
                if not self._left and not self._next():
                    break
                part = self._left[:wanted]
                self._left = self._left[len(part) :]
                self._position += len(part)
                wanted -= len(part)
                parts.append(part)
        data = b"".join(parts)
        if self._taken is not None:
            self._taken(len(data))
        return data

    def read1(self, size: int = -1) -> bytes:
        return self.read(size)

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def _next(self) -> bool:
        if self._pieces is None:
            self._pieces = self._stored.read(self._position)
        self._left = next(self._pieces, memoryview(b""))
        return bool(self._left)

    def _forget(self) -> None:
        self._pieces = None
        self._left = memoryview(b"")

    def close(self) -> None:
        self._forget()
        super().close()
