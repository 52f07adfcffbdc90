"""What files that come in at the same time share: workers, the thread that hashes, blocks of the base.

Relies on hashing and base_tensors. Promises: memory does not grow with the number of files.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mpstore.hashing import Hashing
from mpstore.ingest.base_tensors import SharedBlocks

_DEPTH_PER_THREAD: Final = 4
_LEAST_DEPTH: Final = 2
_SHARED_BYTES: Final = 64 << 20


class Crew:
    """For so many `files` of so many `checkpoints`. For any number of threads; a context manager."""

    def __init__(self, threads: int, files: int = 1, checkpoints: int = 1) -> None:
        self.hashing = Hashing()
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="mp-encode")
        at_once = self.hashing.at_once(files)
        self.depth = max(_LEAST_DEPTH, threads * _DEPTH_PER_THREAD // at_once)  # of each file
        self.shared = SharedBlocks(_SHARED_BYTES) if checkpoints > 1 and at_once > 1 else None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.hashing.__exit__()
