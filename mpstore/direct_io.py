"""Reading and writing past the page cache: spares the copy in between.

Relies on os, numpy and the C library's mincore. Promises: the same bytes as the ordinary way, which whatever
does not fit goes: addresses, offsets and lengths in whole pages do, on systems and file systems that can.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

PAGE_BYTES: Final = 4096
LEAST_BYTES: Final = 1 << 18
"""Below this the ordinary way is as good."""
_WORD_BYTES: Final = 8
_CAN: Final = getattr(os, "O_DIRECT", 0)
_CANNOT: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EINTR}


class Span(NamedTuple):
    """What of some bytes can go the direct way: `body` of them, in whole pages, after the first `head`."""

    head: int
    body: int


def open_direct(path: str | os.PathLike[str], flags: int) -> int:
    """A descriptor for whole pages; -1 where there is no such thing."""
    if _CAN:
        with contextlib.suppress(OSError):
            return os.open(path, flags | _CAN | os.O_CLOEXEC)
    return -1


def room(size: int, offset: int) -> npt.NDArray[np.uint8]:
    """`size` bytes of memory that lie as file offset `offset` does within pages, unless words would not lie
    as they should. Its `base` owns the memory."""
    whole = np.empty(size + PAGE_BYTES, np.uint8)
    return place(whole, size, offset)


def place(whole: npt.NDArray[np.uint8], size: int, offset: int) -> npt.NDArray[np.uint8]:
    """The `size` bytes of such memory that lie as `offset` does."""
    within = offset % PAGE_BYTES if offset % _WORD_BYTES == 0 else 0
    start = (within - address(whole)) % PAGE_BYTES
    return whole[start : start + size]


def address(view: Any) -> int:
    """Where a contiguous buffer's bytes lie."""
    at: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return at


def span(view: memoryview, offset: int) -> Span:
    """What of `view`, which is to be read from or written at `offset`, can go the direct way."""
    head = -offset % PAGE_BYTES
    body = (view.nbytes - head) // PAGE_BYTES * PAGE_BYTES
    if body < LEAST_BYTES or (address(view) - offset) % PAGE_BYTES:
        return Span(view.nbytes, 0)
    return Span(head, body)


def cached_share(fd: int, size: int) -> float:
    """How much of a file of `size` bytes is in the page cache, 0 to 1; 1 where nobody tells."""
    pages = np.zeros(-(-size // PAGE_BYTES), np.uint8)
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapped:
            at, into = ctypes.c_void_p(address(mapped)), ctypes.c_void_p(address(pages))
            failed = mincore(at, ctypes.c_size_t(size), into)
    except (OSError, ValueError, AttributeError, BufferError):
        return 1.0
    return 1.0 if failed else float((pages & 1).mean())


def reserve(fd: int, size: int) -> None:
    """Find room for a file of `size` bytes and make it so long. OSError: there is none. Nothing happens where
    a file system cannot."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError):
        if ctypes.CDLL(None, use_errno=True).fallocate(
            ctypes.c_int(fd), ctypes.c_int(0), ctypes.c_int64(0), ctypes.c_int64(size)
        ):
            number = ctypes.get_errno()
            if number not in _CANNOT:
                raise OSError(number, os.strerror(number))
