"""Worker threads that take the oldest work first.

Relies on nothing. Promises: work of a lower rank is begun before work of a higher one that waits with it;
`stop` returns when every thread has ended, and what had not begun never runs.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable

Call = Callable[[], None]
Rank = tuple[int, ...]


class Crew:
    """`threads` workers. A call must not raise: it reports through a future of its own."""

    def __init__(self, threads: int, name: str) -> None:
        self._queue: queue.PriorityQueue[tuple[Rank, int, Call | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, rank: Rank, call: Call) -> None:
        """Have `call` run by one of the threads."""
        self._queue.put((rank, next(self._numbers), call))

    def _work(self) -> None:
        while True:
            _, _, call = self._queue.get()
            if call is None or self._stopped:
                return
            call()

    def stop(self) -> None:
        """Finish what has begun, drop the rest."""
        self._stopped = True
        for _ in self._threads:
            self._queue.put(((-1,), next(self._numbers), None))
        for thread in self._threads:
            thread.join()
