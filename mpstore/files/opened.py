"""Files that are there and change in place: overwritten where they differ, or grown by the line.

Relies on operations. Promises: nothing about durability but what `fsync` says.
"""

from __future__ import annotations

import os

from mpstore.errors import StorageError
from mpstore.files.operations import Buffer, Path, announce, translated, write_all


class PatchedFile:
    """An existing file, opened to be overwritten in places; its length stays. Links are not followed. Any
    number of threads may write. A context manager that closes."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        with translated(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> PatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write_at(self, offset: int, buffer: Buffer) -> None:
        """Overwrite from `offset` on."""
        with translated(self.path):
            write_all(self._fd, self.path, memoryview(buffer).cast("B"), offset)

    def fsync(self) -> None:
        """Make what was written durable."""
        with translated(self.path):
            announce("fsync", self.path)
            os.fsync(self._fd)


class AppendedFile:
    """A small file that only grows, a line at a time (O_APPEND). Not synced: it matters to the living."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        with translated(path):
            announce("create", path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o666)
        self._size = 0

    def append(self, data: bytes) -> None:
        """Add `data` at the end. StorageError where somebody has removed the file meanwhile."""
        with translated(self.path):
            if os.fstat(self._fd).st_nlink == 0:
                raise StorageError(f"{self.path}: removed by somebody while in use")
            view = memoryview(data)
            while view.nbytes:
                limit = announce("write", self.path, offset=self._size, data=view)
                written = os.write(self._fd, view if limit is None else view[: max(1, limit)])
                view = view[written:]
                self._size += written

    def close(self) -> None:
        """Stop writing; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
