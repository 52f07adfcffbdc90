"""What files that come in at the same time share: workers, the thread that hashes, blocks of the base.

Relies on hashing, pipeline and base_tensors. Promises: memory does not grow with the number of files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mpstore.hashing import Hashing, Stopped
from mpstore.ingest.base_tensors import SharedBlocks
from mpstore.pipeline import in_parallel

_DEPTH_PER_THREAD: Final = 4
_LEAST_DEPTH: Final = 3
_MOST_AT_ONCE: Final = 8
"""Files side by side: as many hashes as cost little more than one; each has batches of its own in memory."""
_SHARED_BYTES: Final = 64 << 20


class Crew:
    """For so many `files` of so many `checkpoints`. For any number of threads; a context manager."""

    def __init__(self, threads: int, files: int = 1, checkpoints: int = 1) -> None:
        self.hashing = Hashing()
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="mp-encode")
        self._at_once = min(files, _MOST_AT_ONCE) if self.hashing.together else 1
        self.depth = max(_LEAST_DEPTH, threads * _DEPTH_PER_THREAD // self._at_once)  # of each file
        self.shared = SharedBlocks(_SHARED_BYTES) if checkpoints > 1 and self._at_once > 1 else None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.hashing.__exit__()

    def each(self, works: Sequence[Callable[[], None]]) -> None:
        """Do all of it, as much at once as pays. The first failure ends the others."""
        if self._at_once > 1:
            in_parallel(lambda work: work(), works, self._at_once, self.hashing.stop, Stopped)
            return
        for work in works:
            work()
