"""Files under construction, which get their final names when they are whole.

Relies on operations, names and direct_io. Promises: nothing half-written gets a final name; what is published
is durable, name and content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from typing import Any, Final, Protocol

from mpstore import direct_io
from mpstore.errors import StorageError
from mpstore.files.names import fsync_directory, remove, rename, staging_name
from mpstore.files.operations import Buffer, Path, announce, translated, write_all

_BUFFER_BYTES: Final = 1 << 20
_WRITE_BEHIND_BYTES: Final = 16 << 20


class Hasher(Protocol):
    """What hears of all that is written, as those of hashlib and blake3 do."""

    def update(self, data: Any, /) -> Any: ...


class StagedFile:
    """A file under construction in tmp_dir; `publish` gives it its final name. One thread at a time, except
    `write_at`. As a context manager it is discarded on leaving unless published.

    `hasher` hears of what `write` gets, in order and in large pieces; `flush` is the last of it. What fits
    the direct way goes past the page cache: it has to reach the disk anyway.
    """

    def __init__(
        self, tmp_dir: Path, *, durable: bool = True, mode: int = 0o666, hasher: Hasher | None = None
    ) -> None:
        self.path = staging_name(tmp_dir)
        self._durable = durable
        self._synced = False
        self._hasher = hasher
        self._buffer: memoryview | None = None
        self._filled = self._written_bytes = self._handed_bytes = 0
        self._fd = -1
        self._direct: int | None = None
        self._lock = threading.Lock()
        with translated(self.path):
            announce("create", self.path)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, mode)

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def tell(self) -> int:
        """Bytes written so far by `write`."""
        return self._written_bytes + self._filled

    def write(self, buffer: Buffer) -> None:
        """Append; the bytes are gathered."""
        view = memoryview(buffer)
        if view.nbytes:
            view = view.cast("B")
        while view.nbytes:
            if self._buffer is None:
                self._buffer = direct_io.room(_BUFFER_BYTES, self._written_bytes).data
            part = view[: _BUFFER_BYTES - self._filled]
            self._buffer[self._filled : self._filled + part.nbytes] = part
            self._filled += part.nbytes
            view = view[part.nbytes :]
            if self._filled == _BUFFER_BYTES:
                self.flush()

    def write_at(self, offset: int, buffer: Buffer) -> None:
        """Write at a place of its own; several threads may. Not mixed with `write`."""
        if not memoryview(buffer).nbytes:
            return
        view = memoryview(buffer).cast("B")
        self._write(view, offset)
        if view.nbytes >= _BUFFER_BYTES:
            self._write_behind(offset, view.nbytes)

    def reserve(self, size: int) -> None:
        """The file is going to have so many bytes, written by `write_at`: find room for all of them at once,
        where the file system can. StorageError: there is none."""
        with translated(self.path):
            announce("truncate", self.path, offset=size)
            direct_io.reserve(self._fd, size)

    def flush(self) -> None:
        """Hand what was gathered to the operating system."""
        if self._buffer is None or not self._filled:
            return
        gathered, self._filled = self._buffer[: self._filled], 0
        if self._hasher is not None:
            self._hasher.update(gathered)
        self._write(gathered, self._written_bytes)
        self._written_bytes += gathered.nbytes
        if self._written_bytes % direct_io.PAGE_BYTES:
            self._buffer = None  # the next lies otherwise
        if self._written_bytes - self._handed_bytes >= _WRITE_BEHIND_BYTES:
            self._write_behind(self._handed_bytes, self._written_bytes - self._handed_bytes)
            self._handed_bytes = self._written_bytes

    def _write(self, view: memoryview, offset: int) -> None:
        """Write at a place: whole pages the direct way, where both ends of it lie so."""
        self._synced = False
        head, body = direct_io.span(view, offset)
        if body and self._direct_fd() >= 0:
            pieces = [
                (self._fd, view[:head], offset),
                (self._direct_fd(), view[head : head + body], offset + head),
                (self._fd, view[head + body :], offset + head + body),
            ]
        else:
            pieces = [(self._fd, view, offset)]
        with translated(self.path):
            for fd, piece, at in pieces:
                if fd == self._fd:
                    write_all(fd, self.path, piece, at)
                else:
                    self._write_direct(fd, piece, at)

    def _write_direct(self, fd: int, data: memoryview, offset: int) -> None:
        limit = announce("write", self.path, offset=offset, data=data)
        written = 0
        if limit is None:
            try:
                written = os.pwrite(fd, data, offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = -1  # the file system wants it otherwise
        else:
            written = os.pwrite(self._fd, data[: max(1, limit)], offset)
        if written < data.nbytes:
            write_all(self._fd, self.path, data[written:], offset + written)

    def _direct_fd(self) -> int:
        """For whole pages; -1: there is none."""
        with self._lock:
            if self._direct is None:
                self._direct = direct_io.open_direct(self.path, os.O_WRONLY)
            return self._direct

    def _write_behind(self, start: int, length: int) -> None:
        """Have Linux begin to write what was just handed to it, so that the fsync at the end finds little to
        do. (The advice drops clean pages only, and these are dirty.)"""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)

    def fsync(self) -> None:
        """Make the content durable."""
        self.flush()
        with translated(self.path):
            announce("fsync", self.path)
            os.fsync(self._fd)
        self._synced = True

    def publish(self, target: Path) -> None:
        """Sync, then take the name `target` (replacing what has it), then sync its directory."""
        self._complete()
        if not rename(self.path, target):
            raise StorageError(f"{self.path}: the staged file has vanished")
        self._close()
        if self._durable:
            fsync_directory(os.path.dirname(target) or ".")

    def publish_exclusively(self, target: Path) -> bool:
        """Like `publish`, but False when somebody has the name already."""
        self._complete()
        with translated(target):
            announce("link", self.path, target)
            try:
                os.link(self.path, target)
            except FileExistsError:
                return False
        if self._durable:
            fsync_directory(os.path.dirname(target) or ".")
        return True

    def _complete(self) -> None:
        self.flush()
        if self._durable and not self._synced:
            self.fsync()

    def _close(self) -> None:
        for fd in (self._fd, -1 if self._direct is None else self._direct):
            if fd >= 0:
                os.close(fd)
        self._fd, self._direct = -1, -1

    def discard(self) -> None:
        """Close and remove the staged file; nothing happens after `publish`. Errors of removal are let go:
        whatever lies in tmp_dir is nobody's."""
        if self._fd < 0:
            return
        self._close()
        with contextlib.suppress(StorageError):
            remove(self.path)


def write_whole(path: Path, data: Buffer, tmp_dir: Path, durable: bool = True, mode: int = 0o666) -> None:
    """Replace or create `path` with `data`, whole or not at all. tmp_dir: the same file system."""
    with StagedFile(tmp_dir, durable=durable, mode=mode) as staged:
        staged.write(data)
        staged.publish(path)


def create_exclusive(path: Path, data: Buffer, tmp_dir: Path) -> bool:
    """Create `path` with `data` whole and durable, unless it exists: then False, and nothing has changed."""
    with StagedFile(tmp_dir) as staged:
        staged.write(data)
        return staged.publish_exclusively(path)
