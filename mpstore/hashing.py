"""SHA-256 of files that stream by: in threads that do nothing else, many at once where that is cheaper.

Relies on kernels, hash_lanes and pipeline. Promises: a file's pieces are hashed in order; a piece may change
when its future is done; no file waits long for another's bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from mpstore import kernels
from mpstore.hash_lanes import FileHash, Lane, Lanes, Stopped
from mpstore.ids import Buffer
from mpstore.pipeline import in_parallel

_MOST_AT_ONCE: Final = 8


class Lagging:
    """Submits to a hash that may lag behind by `most` pieces, so that memory is bounded: then it waits."""

    def __init__(self, own: FileHash, most: int) -> None:
        self._own = own
        self._most = most
        self._unhashed: deque[Future[None]] = deque()

    def submit(self, data: Buffer) -> Future[None]:
        """`FileHash.submit`."""
        while len(self._unhashed) >= self._most:
            self._unhashed.popleft().result()
        self._unhashed.append(self._own.submit(data))
        return self._unhashed[-1]


class Hashing:
    """Hashes for any number of files at a time. For any number of threads; a context manager.

    SHA-256 is a chain that no second thread can help with, and a third of what an ingest computes where the
    processor has no instructions for it. So each file's hash has a thread, and whoever reads goes on; but
    where hashes side by side in one thread take hardly longer than one, all files share that thread.
    """

    def __init__(self) -> None:
        self._module = kernels.pick("sha256")
        self._lanes = Lanes(self._module) if self._module.lanes() > 1 else None
        self._stopped = threading.Event()

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lanes is not None:
            self._lanes.close()

    def at_once(self, files: int) -> int:
        """How many of so many files should stream by at a time: several where hashes side by side cost much
        less than one after the other, but no more than keep their bytes in memory at once."""
        return 1 if self._lanes is None else max(1, min(files, _MOST_AT_ONCE))

    def each(self, works: Sequence[Callable[[], None]]) -> None:
        """Do all of it, a work a file, so many at once. The first failure ends the others."""
        at_once = self.at_once(len(works))
        if at_once > 1:
            in_parallel(lambda work: work(), works, at_once, self.stop, Stopped)
            return
        for work in works:
            work()

    def begin(self, size: int | None = None) -> FileHash:
        """The hash of a file; of `size` bytes, if that is known."""
        if self._lanes is not None:
            return Lane(self._lanes, self._module.sha256(), size, self._stopped)
        return _Chain(self._module.sha256(), self._stopped)

    @property
    def resumes(self) -> bool:
        """Whether `resume` can be called."""
        return self._lanes is not None

    def resume(self, point: bytes, after_bytes: int, size: int) -> FileHash:
        """The hash of `size` bytes more of a file, `point` (b"" at the beginning) being where it stood after
        so many, a multiple of POINT_BYTES."""
        if self._lanes is None:
            raise ValueError("no hash here begins in the middle")
        return Lane(self._lanes, self._module.resumed(point, after_bytes), size, self._stopped)

    def stop(self) -> None:
        """Have everybody who submits fail."""
        self._stopped.set()


class _Chain:
    """A hash with a thread of its own."""

    points: Sequence[bytes] = ()

    def __init__(self, own: Any, stopped: threading.Event) -> None:
        self._own = own
        self._stopped = stopped
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mp-sha256")
        self._last: Future[None] | None = None
        self._failed: BaseException | None = None

    def __enter__(self) -> _Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def submit(self, data: Buffer) -> Future[None]:
        if self._stopped.is_set():
            raise Stopped
        self._last = self._thread.submit(self._update, data)
        return self._last

    def _update(self, data: Buffer) -> None:
        if self._failed is not None:  # what follows a gap is another file's hash
            raise self._failed
        try:
            self._own.update(data)
        except BaseException as error:
            self._failed = error
            raise

    def digest(self) -> bytes:
        if self._last is not None:
            self._last.result()
        found: bytes = self._own.digest()
        return found


__all__ = ["FileHash", "Hashing", "Lagging", "Stopped"]
