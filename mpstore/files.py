"""All disk writing: staged files, atomic replacement, exclusive creation, fsync of file and directory.

Relies on errors and processes. Promises: every operation that changes the disk is announced to the observer
before it happens; OSErrors come out as StorageError with the path; nothing half-written gets a final name.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from mpstore import processes
from mpstore.errors import StorageError

Path: TypeAlias = str | os.PathLike[str]
Buffer: TypeAlias = Any  # bytes, bytearray, memoryview or a contiguous numpy array
Kind: TypeAlias = Literal[
    "mkdir", "create", "write", "truncate", "fsync", "fsync_dir", "rename", "link", "unlink", "rmdir"
]

_BUFFER_BYTES: Final = 1 << 20
_WRITE_BEHIND_BYTES: Final = 16 << 20
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Operation:
    """A change of the disk: `target` is the new name of rename and link, `data` what write puts at offset."""

    kind: Kind
    path: str
    target: str = ""
    offset: int = 0
    data: memoryview | None = None


Observer: TypeAlias = Callable[[Operation], int | None]
_observer: Observer | None = None


def set_observer(observer: Observer | None) -> None:
    """Have every operation told to `observer` first. It may raise OSError (a fault), and for a write return
    the number of bytes to write (a short write). Called from the thread that writes. None: nobody watches."""
    global _observer
    _observer = observer


def _announce(
    kind: Kind, path: Path, target: Path = "", offset: int = 0, data: memoryview | None = None
) -> int | None:
    if _observer is None:
        return None
    return _observer(Operation(kind, os.fspath(path), os.fspath(target), offset, data))


_HINTS: Final = {
    28: "free some space and run the command again: what is stored already is found and not stored twice",
    30: "the file system is read-only",
    13: "check the owner and the permissions",
}


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{os.fspath(path)}: {error.strerror or error}"
        raise StorageError(message, hint=_HINTS.get(error.errno or 0)) from error


def fsync_directory(path: Path) -> None:
    """Make the names in the directory durable."""
    with _translated(path):
        _announce("fsync_dir", path)
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directories(path: Path) -> None:
    """Create the directory and its missing parents, each durable in its parent. It may exist already."""
    missing = []
    directory = os.path.abspath(path)
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    if _is_unsettled(directory):
        fsync_directory(os.path.dirname(directory))
    for directory in reversed(missing):
        with _translated(directory):
            _announce("mkdir", directory)
            with contextlib.suppress(FileExistsError):  # somebody else was faster
                os.mkdir(directory)
        fsync_directory(os.path.dirname(directory))


def _is_unsettled(directory: str) -> bool:
    """Whether who made the directory may have been killed before its name was durable: nothing has been put
    in it yet. Who may not write to its parent is in nobody's place who may."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return next(entries, None) is None and os.access(os.path.dirname(directory), os.R_OK | os.W_OK)
    return False


def remove(path: Path) -> bool:
    """Unlink a file. False: it was not there."""
    with _translated(path):
        _announce("unlink", path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
    return True


def remove_directory(path: Path) -> bool:
    """Remove an empty directory. False: it was not there, or is not empty."""
    with _translated(path):
        _announce("rmdir", path)
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return False
        except OSError:
            if os.path.isdir(path) and os.listdir(path):
                return False
            raise
    return True


def rename(old: Path, new: Path) -> bool:
    """Give a file or directory another name, replacing a file that has it. False: `old` was not there.

    Not durable until `fsync_directory` of both directories.
    """
    with _translated(old):
        _announce("rename", old, new)
        while True:
            try:
                os.rename(old, new)
                return True
            except FileNotFoundError:
                if not os.path.lexists(old):
                    return False
                if not os.path.isdir(os.path.dirname(new) or "."):
                    raise
                # it was away, and is there again: two gcs hand it to and fro


def remove_tree(path: Path) -> None:
    """Remove a directory and what lies in it; links are removed, not followed. It may be gone already."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove(path)
        return
    with _translated(path):
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            remove(entry.path)
    remove_directory(path)


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


def staging_name(tmp_dir: Path) -> str:
    """A fresh name in tmp_dir that tells which process it belongs to (`processes.parse` of the base name)."""
    return os.path.join(tmp_dir, f"{processes.current().token}-{next(_numbers)}")


def _write_all(fd: int, path: Path, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; short writes are continued."""
    while data.nbytes:
        limit = _announce("write", path, offset=offset, data=data)
        part = data if limit is None else data[: max(1, limit)]
        written = os.pwrite(fd, part, offset)
        data = data[written:]
        offset += written


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
        with _translated(self.path):
            _announce("create", self.path)
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
        if len(self._buffer) + view.nbytes > _BUFFER_BYTES:
            self.flush()
        if view.nbytes >= _BUFFER_BYTES:
            self._put(view)
        else:
            self._buffer += view

    def write_at(self, offset: int, buffer: Buffer) -> None:
        """Write at a place of its own; several threads may. Not mixed with `write`."""
        self._synced = False
        view = memoryview(buffer).cast("B")
        with _translated(self.path):
            _write_all(self._fd, self.path, view, offset)
        if view.nbytes >= _BUFFER_BYTES:
            self._write_behind(offset, view.nbytes)

    def flush(self) -> None:
        """Hand what was gathered to the operating system."""
        if self._buffer:
            gathered, self._buffer = self._buffer, bytearray()
            self._put(memoryview(gathered))

    def _put(self, view: memoryview) -> None:
        self._synced = False
        with _translated(self.path):
            _write_all(self._fd, self.path, view, self._written_bytes)
        self._written_bytes += view.nbytes
        if self._written_bytes - self._handed_bytes >= _WRITE_BEHIND_BYTES:
            self._write_behind(self._handed_bytes, self._written_bytes - self._handed_bytes)
            self._handed_bytes = self._written_bytes

    def _write_behind(self, start: int, length: int) -> None:
        """Have Linux begin to write what was just handed to it, so that the fsync at the end finds little to
        do. (The advice drops clean pages only, and these are dirty.)"""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)

    def fsync(self) -> None:
        """Make the content durable."""
        self.flush()
        with _translated(self.path):
            _announce("fsync", self.path)
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
        with _translated(target):
            _announce("link", self.path, target)
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


class PatchedFile:
    """An existing file, opened to be overwritten in places; its length stays. Links are not followed. Any
    number of threads may write. A context manager that closes."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        with _translated(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> PatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write_at(self, offset: int, buffer: Buffer) -> None:
        """Overwrite from `offset` on."""
        with _translated(self.path):
            _write_all(self._fd, self.path, memoryview(buffer).cast("B"), offset)

    def fsync(self) -> None:
        """Make what was written durable."""
        with _translated(self.path):
            _announce("fsync", self.path)
            os.fsync(self._fd)


class AppendedFile:
    """A small file that only grows, a line at a time (O_APPEND). Not synced: it matters to the living."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        with _translated(path):
            _announce("create", path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o666)
        self._size = 0

    def append(self, data: bytes) -> None:
        """Add `data` at the end. StorageError where somebody has removed the file meanwhile."""
        with _translated(self.path):
            if os.fstat(self._fd).st_nlink == 0:
                raise StorageError(f"{self.path}: removed by somebody while in use")
            view = memoryview(data)
            while view.nbytes:
                limit = _announce("write", self.path, offset=self._size, data=view)
                written = os.write(self._fd, view if limit is None else view[: max(1, limit)])
                view = view[written:]
                self._size += written

    def close(self) -> None:
        """Stop writing; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
