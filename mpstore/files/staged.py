"""Files under construction, which get their final names when they are whole.

Relies on operations and names. Promises: nothing half-written gets a final name; what is published
is durable, name and content.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

from mpstore.errors import StorageError
from mpstore.files.names import fsync_directory, remove, rename, staging_name
from mpstore.files.operations import Buffer, Path, announce, translated, write_all

BUFFER_BYTES: Final = 1 << 20
_WRITE_BEHIND_BYTES: Final = 16 << 20


class StagedFile:
    """A file under construction in tmp_dir; `publish` gives it its final name. One thread at a time, except
    `write_at`. As a context manager it is discarded on leaving unless published."""

    def __init__(self, tmp_dir: Path, *, durable: bool = True, mode: int = 0o666) -> None:
        self.path = staging_name(tmp_dir)
        self._durable = durable
        self._synced = False
        self._buffer = bytearray()
        self._written_bytes = self._handed_bytes = 0
        self._fd = -1
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
        return self._written_bytes + len(self._buffer)

    def write(self, buffer: Buffer) -> None:
        """Append; small pieces are gathered."""
        view = memoryview(buffer).cast("B") if memoryview(buffer).nbytes else memoryview(b"")
        if len(self._buffer) + view.nbytes > BUFFER_BYTES:
            self.flush()
        if view.nbytes >= BUFFER_BYTES:
            self._put(view)
        else:
            self._buffer += view

    def write_at(self, offset: int, buffer: Buffer) -> None:
        """Write at a place of its own; several threads may. Not mixed with `write`."""
        self._synced = False
        view = memoryview(buffer).cast("B")
        with translated(self.path):
            write_all(self._fd, self.path, view, offset)
        if view.nbytes >= BUFFER_BYTES:
            self._write_behind(offset, view.nbytes)

    def reserve(self, size: int) -> None:
        """The file is going to have so many bytes, written by `write_at`: find room for all of them at once,
        where the file system can. StorageError: there is none."""
        from mpstore import direct_io  # with numpy, which no small file needs

        with translated(self.path):
            announce("truncate", self.path, offset=size)
            direct_io.reserve(self._fd, size)

    def flush(self) -> None:
        """Hand what was gathered to the operating system."""
        if self._buffer:
            gathered, self._buffer = self._buffer, bytearray()
            self._put(memoryview(gathered))

    def _put(self, view: memoryview) -> None:
        self._synced = False
        with translated(self.path):
            self._write(view, self._written_bytes)
        self._written_bytes += view.nbytes
        if self._written_bytes - self._handed_bytes >= _WRITE_BEHIND_BYTES:
            self._write_behind(self._handed_bytes, self._written_bytes - self._handed_bytes)
            self._handed_bytes = self._written_bytes

    def _write(self, view: memoryview, offset: int) -> None:
        write_all(self._fd, self.path, view, offset)

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
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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
