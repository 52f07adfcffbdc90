"""How much memory there is; the C library's heap, told to keep what is freed while blocks come and go.

Relies on ctypes and on glibc where it is there. Promises: nothing changes but speed and how much memory the
process holds on to; `give_back` returns what is free. Elsewhere both do nothing.

glibc serves a block of 256 KiB by mapping fresh pages and unmaps them when it is freed, so every decoded
block pays for 64 page faults, which cost as much as decoding it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_KEPT_BYTES: Final = 32 << 20  # the most that glibc accepts for the second
_KEPT_BYTES: Final = 1 << 29


_GROUP_LIMITS: Final = (
    "/sys/fs/cgroup/memory.max",  # of a container, in either version of Linux's control groups
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def physical_bytes(group_limits: Sequence[str] = _GROUP_LIMITS) -> int:
    """The machine's memory, or what a container leaves of it; 0: unknown."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0
    for path in group_limits:
        try:
            with open(path, encoding="ascii") as file:
                found = min(found, int(file.read(32)))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(found, 0)


@cache
def _libc() -> Any:
    """glibc, or None."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None


@cache
def keep_freed() -> bool:
    """Freed memory stays with the process from now on. False: this C library has no such setting."""
    library = _libc()
    if library is None:
        return False
    first = library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    return bool(first and library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))


def give_back() -> None:
    """Return free memory to the system: after work that needed much."""
    library = _libc()
    if library is not None:
        library.malloc_trim(0)
