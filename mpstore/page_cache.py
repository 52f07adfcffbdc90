"""Asking the kernel to read ahead what is sure to be read soon.

Relies on os. Promises: a hint only, and nothing at all where the system knows none or has the bytes already:
walking over pages that are in the cache costs half of what reading them does.
"""

from __future__ import annotations

import contextlib
import os


def will_need(fd: int, offset: int, length: int) -> None:
    """Have bytes [offset, offset + length) read in the background."""
    if length > 0 and hasattr(os, "posix_fadvise") and not _is_cached(fd, offset + length - 1):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, offset, length, os.POSIX_FADV_WILLNEED)


def _is_cached(fd: int, offset: int) -> bool:
    """Whether the byte at `offset` is in memory, as far as can be told without reading it."""
    if not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError:
        return False
