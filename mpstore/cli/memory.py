"""How this process treats memory: blocks come and go in their thousands, so what was freed is kept for them.

Relies on nothing but the C library, if that is glibc. Promises: a hint, never needed; libraries that import
mpstore are left alone, only the command does this.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # of glibc's malloc.h
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 256 << 20
_LARGEST_POOLED_BYTES: Final = 32 << 20
_YOUNG_OBJECTS: Final = 50_000


def settle() -> None:
    """Keep freed memory for the next block instead of giving it back and faulting it in again page by page;
    look for cycles of garbage seldom, as blocks make none, and never among what was imported."""
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            mallopt = None
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST_POOLED_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)
