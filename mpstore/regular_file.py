"""Opening files to read them: regular ones, and nothing that a command could wait for without end.

Relies on errors. Promises: a pipe, socket, device or directory in the place of a file is DamagedError at
once; other OSErrors come out as they are.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Final

from mpstore.errors import DamagedError

_NOT_TO_BE_OPENED: Final = (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)  # sockets, devices


def open_regular(path: str | os.PathLike[str]) -> tuple[int, int]:
    """A descriptor to read from, and the file's size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except BlockingIOError:  # a file server has lent it out, and is asked for it back: that is worth the wait
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_TO_BE_OPENED:
            raise _no_file(path) from None
        raise
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return fd, status.st_size
    os.close(fd)
    raise _no_file(path)


def read_regular(path: str | os.PathLike[str], limit_bytes: int = sys.maxsize) -> bytes:
    """The content of a file, at most so much of it."""
    fd, size = open_regular(path)
    try:
        data = os.read(fd, min(limit_bytes, size + 1))
        while (
            data and len(data) < limit_bytes and (more := os.read(fd, min(limit_bytes - len(data), 1 << 20)))
        ):
            data += more
        return data
    finally:
        os.close(fd)


def _no_file(path: str | os.PathLike[str]) -> DamagedError:
    return DamagedError(f"{os.fspath(path)}: damaged: it is a directory, pipe, socket or device, and no file")
