"""Bytes of a file or of any `read(n)` stream, into buffers that are used again; hashed on the way.

Relies on errors and hashing. Promises: every byte is read once, in order, and enters the SHA-256, which
another thread computes; a stream that ends early or goes on too long is DamagedError; a file that changes
while it is read is noticed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from mpstore import direct_io, page_cache
from mpstore.checkpoint_dir import SourceFile
from mpstore.errors import DamagedError, StorageError
from mpstore.hashing import Hashing, Lagging

Bytes = npt.NDArray[np.uint8]
_AHEAD_BYTES: Final = 32 << 20
_UNHASHED: Final = 4  # pieces read whose hash may lag behind
_LARGE_BYTES: Final = 16 << 20  # files below are read as ever


class Stream(Protocol):
    """What can be added: `read(n)` gives at most n bytes, none at the end. `readinto` is preferred."""

    def read(self, size: int, /) -> Any: ...


class HashedReader:
    """A stream (of `size` bytes, where that is known) with its SHA-256 and the count of bytes taken. For one
    thread; a context manager. Whoever reads goes on while `hashing` hashes."""

    def __init__(self, stream: Stream, where: str, hashing: Hashing, size: int | None = None) -> None:
        self._read = stream.read
        self._readinto = getattr(stream, "readinto", None)
        self.where = where
        self._sha256 = hashing.begin(size)
        self._lagging = Lagging(self._sha256, _UNHASHED)
        self.taken_bytes = 0

    def __enter__(self) -> HashedReader:
        self._sha256.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._sha256.__exit__()

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        data = bytes(self._read(size))
        self._count(data)
        return data

    def read_block(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end, none after it."""
        parts: list[bytes] = []
        lacking = size
        while lacking and (part := self.read(lacking)):
            parts.append(part)
            lacking -= len(part)
        return b"".join(parts)

    def fill(self, buffer: Bytes) -> Future[None]:
        """Fill the whole buffer, which must not change before the result is there. DamagedError: the stream
        ended before."""
        view = memoryview(buffer.data).cast("B")
        at = 0
        while at < len(view):
            if self._readinto is not None:
                got = self._readinto(view[at:])
            else:
                data = self._read(len(view) - at)
                got = len(data)
                view[at : at + got] = data
            if not got:
                raise self._short(len(view) - at)
            at += got
        return self._count(view)

    def _short(self, lacking: int) -> DamagedError:
        at = self.taken_bytes
        return DamagedError(
            f"{self.where}: ends after byte {at}, at least {lacking} bytes early", hint="fetch the file again"
        )

    def _count(self, data: Any) -> Future[None]:
        """Have `data` hashed behind what came before it."""
        self.taken_bytes += len(data)
        return self._lagging.submit(data)

    @property
    def points(self) -> Sequence[bytes]:
        """`FileHash.points` of what was taken, once it is finished."""
        return self._sha256.points

    def finish(self, expected_sha256: bytes | None) -> bytes:
        """The SHA-256, the stream being at its end. DamagedError: it goes on, or the sum is another."""
        if self._read(1):
            raise DamagedError(f"{self.where}: goes on after its end at byte {self.taken_bytes}")
        digest = self._sha256.digest()
        if expected_sha256 is not None and digest != expected_sha256:
            raise DamagedError(
                f"{self.where}: SHA-256 is {digest.hex()}, expected {expected_sha256.hex()}",
                hint="fetch the file again",
            )
        return digest


class OpenedFile:
    """A source file opened for one sequential read: the kernel reads ahead of us, or, where most of a large
    file is not in memory, what fits the direct way goes past its cache."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        try:
            self._fd = os.open(file.source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"{file.source}: {error.strerror or error}") from error
        self._at = 0
        self._asked = 0
        self._direct = -1
        if file.size >= _LARGE_BYTES and direct_io.cached_share(self._fd, file.size) < 0.5:
            self._direct = direct_io.open_direct(file.source, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            ahead = os.POSIX_FADV_SEQUENTIAL if self._direct < 0 else os.POSIX_FADV_RANDOM
            os.posix_fadvise(self._fd, 0, 0, ahead)

    def __enter__(self) -> OpenedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if self._direct >= 0:
            os.close(self._direct)

    def _ahead(self) -> None:
        """Keep the disk busy while the processors are: ask for the next stretch before it is needed."""
        if self._at + _AHEAD_BYTES // 2 >= self._asked and self._asked < self._file.size:
            page_cache.will_need(self._fd, self._asked, min(_AHEAD_BYTES, self._file.size - self._asked))
            self._asked += _AHEAD_BYTES

    def readinto(self, view: memoryview) -> int:
        try:
            got = self._readinto(view)
        except OSError as error:
            raise StorageError(f"{self._file.source}: {error.strerror or error}") from error
        self._at += got
        return got

    def _readinto(self, view: memoryview) -> int:
        if self._direct < 0:
            self._ahead()
            return os.preadv(self._fd, [view], self._at)
        head, body = direct_io.span(view, self._at)
        if head:
            return os.preadv(self._fd, [view[:head]], self._at)
        try:
            return os.preadv(self._direct, [view[:body]], self._at)
        except OSError:  # the file system wants it otherwise; a damaged disk will say so again
            os.close(self._direct)
            self._direct = -1
            return os.preadv(self._fd, [view], self._at)

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def check_unchanged(self) -> None:
        """DamagedError if the file was written to since it was scanned."""
        now = os.fstat(self._fd)
        if (now.st_size, now.st_mtime_ns) != (self._file.size, self._file.mtime_ns):
            raise DamagedError(f"{self._file.source}: changed while it was read", hint="add it again")


class BufferPool:
    """Buffers of one length that come back. For one thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[Bytes] = []

    def take(self, offset: int) -> Bytes:
        """One that can be filled from a file's `offset` on the direct way."""
        if not self._free:
            return direct_io.room(self.size, offset)
        return direct_io.place(self._free.pop(), self.size, offset)

    def give_back(self, buffer: Bytes) -> None:
        assert isinstance(buffer.base, np.ndarray)
        self._free.append(buffer.base)
