"""Files under construction, which get their final names when they are whole.

Relies on operations, names and direct_io. Promises: nothing half-written gets a final name; what is published
is durable, name and content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
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

    `hasher` hears of what `write` gets, in order and in large pieces; `flush` is the last of it. With
    `past_cache` `write` goes past the page cache where it can, for what will not be read soon.
    """

    def __init__(
        self,
        tmp_dir: Path,
        *,
        durable: bool = True,
        mode: int = 0o666,
        hasher: Hasher | None = None,
        past_cache: bool = False,
    ) -> None:
        self.path = staging_name(tmp_dir)
        self._durable = durable
        self._synced = False
        self._hasher = hasher
        self._past_cache = past_cache
        self._buffer: memoryview | None = None
        self._filled = self._written_bytes = self._handed_bytes = 0
        self._fd = self._direct = -1
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
        """Append; small pieces are gathered."""
        view = memoryview(buffer)
        if view.nbytes:
            view = view.cast("B")
        if view.nbytes >= _BUFFER_BYTES and not self._past_cache:
            self.flush()
            self._append(view)
            return
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
        self._synced = False
        view = memoryview(buffer).cast("B")
        with translated(self.path):
            write_all(self._fd, self.path, view, offset)
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
        if self._buffer is not None and self._filled:
            gathered, self._filled = self._buffer[: self._filled], 0
            self._append(gathered)
            if self._written_bytes % direct_io.PAGE_BYTES:
                self._buffer = None  # the next lies otherwise

    def _append(self, view: memoryview) -> None:
        self._synced = False
        if self._hasher is not None:
            self._hasher.update(view)
        at = self._written_bytes
        head, body = direct_io.span(view, at) if self._past_cache else (view.nbytes, 0)
        with translated(self.path):
            write_all(self._fd, self.path, view[:head], at)
            self._write_direct(view[head : head + body], at + head)
            write_all(self._fd, self.path, view[head + body :], at + head + body)
        self._written_bytes += view.nbytes
        if self._written_bytes - self._handed_bytes >= _WRITE_BEHIND_BYTES:
            self._write_behind(self._handed_bytes, self._written_bytes - self._handed_bytes)
            self._handed_bytes = self._written_bytes

    def _write_direct(self, pages: memoryview, offset: int) -> None:
        """Write whole pages past the cache, or the ordinary way where the file system wants it so."""
        written = 0
        if pages.nbytes and self._direct < 0:
            self._direct = direct_io.open_direct(self.path, os.O_WRONLY)
            self._past_cache = self._direct >= 0
        if pages.nbytes and self._past_cache:
            limit = announce("write", self.path, offset=offset, data=pages)
            if limit is not None:
                written = os.pwrite(self._fd, pages[: max(1, limit)], offset)
            else:
                written = self._pwrite_direct(pages, offset)
        write_all(self._fd, self.path, pages[written:], offset + written)

    def _pwrite_direct(self, pages: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._direct, pages, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._past_cache = False
            return 0

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
        for fd in (self._fd, self._direct):
            if fd >= 0:
                os.close(fd)
        self._fd = self._direct = -1

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
