"""What changes a disk, one operation at a time: announced before it happens, its errors translated.

Relies on errors. Promises: OSErrors come out as StorageError with the path; short writes are continued.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from mpstore.errors import StorageError

Path: TypeAlias = str | os.PathLike[str]
Buffer: TypeAlias = Any  # bytes, bytearray, memoryview or a contiguous numpy array
Kind: TypeAlias = Literal[
    "mkdir", "create", "write", "truncate", "fsync", "fsync_dir", "rename", "link", "unlink", "rmdir"
]


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


def announce(
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
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{os.fspath(path)}: {error.strerror or error}"
        raise StorageError(message, hint=_HINTS.get(error.errno or 0)) from error


def write_all(fd: int, path: Path, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; short writes are continued."""
    while data.nbytes:
        limit = announce("write", path, offset=offset, data=data)
        part = data if limit is None else data[: max(1, limit)]
        written = os.pwrite(fd, part, offset)
        data = data[written:]
        offset += written
