"""What the process of a command is told: how it collects garbage, keeps memory, and computes.

Relies on heap and numpy. Promises: nothing but speed and memory changes, whatever the user has set in the
environment holds, and no program that the command starts inherits anything.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

_YOUNG_OBJECTS: Final = 200_000  # that may come to be before garbage is looked for; imports alone make 60,000
_BLAS_THREADS: Final = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")


def begin() -> None:
    """Before anything else: garbage in cycles, of which blocks that come and go in their thousands make none,
    is looked for seldom, and never among what was imported."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)


def prepare() -> None:
    """Before a repository is opened. Freed memory is kept for the next block; numpy comes with one thread.

    OpenBLAS starts a thread for every other processor when it is loaded, and each of them spins for some
    30 ms before it sleeps. The one operator that has work for it (tsv) keeps it to one thread anyhow.
    """
    from mpstore import heap

    heap.keep_freed()
    if "numpy" in sys.modules or any(name in os.environ for name in _BLAS_THREADS):
        return
    os.environ[_BLAS_THREADS[0]] = "1"
    try:
        import numpy  # noqa: F401  # OpenBLAS reads the environment as it is loaded
    finally:
        del os.environ[_BLAS_THREADS[0]]


def end() -> None:
    """After all that a command does: the interpreter need not look for garbage in what it ends with."""
    gc.freeze()
