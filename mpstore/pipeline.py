"""Work in any order, results in order: a bounded queue between one reader and the pool of workers, and long
jobs side by side.

Relies on processors. Promises: at most `depth` pieces of work are under way; results are consumed
in the order of submission, by the submitting thread; after an error nothing of it is still running.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from mpstore import processors

T = TypeVar("T")
R = TypeVar("R")


def thread_count(asked: int | None, configured: int) -> int:
    """Threads to work in: as asked, as configured (0: not), or as many as processors may be used."""
    return asked or configured or processors.count()


class OrderedPipeline:
    """One per submitting thread; several may share a pool."""

    def __init__(self, pool: ThreadPoolExecutor, depth: int) -> None:
        self._pool = pool
        self._depth = depth
        self._queue: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    def __enter__(self) -> OrderedPipeline:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.drain()
        else:
            self._abandon()

    def submit(self, work: Callable[[], T], consume: Callable[[T], None]) -> None:
        """Run `work` in the pool and, when everything before it is consumed, `consume` its result here."""
        while len(self._queue) >= self._depth or (self._queue and self._queue[0][0].done()):
            self._take()
        self._queue.append((self._pool.submit(work), consume))

    def then(self, act: Callable[[], None]) -> None:
        """Do `act` here when everything submitted so far is consumed."""
        done: Future[None] = Future()
        done.set_result(None)
        self._queue.append((done, lambda _: act()))

    def drain(self) -> None:
        """Consume everything that is under way."""
        while self._queue:
            self._take()

    def _take(self) -> None:
        future, consume = self._queue.popleft()
        consume(future.result())

    def _abandon(self) -> None:
        for future, _ in self._queue:
            future.cancel()
        for future, _ in self._queue:
            if not future.cancelled():
                future.exception()
        self._queue.clear()


def in_parallel(
    act: Callable[[T], R],
    items: Iterable[T],
    count: int,
    stop: Callable[[], None],
    stopped: type[BaseException],
) -> list[R]:
    """`act` of every item, at most `count` at a time, each in a thread of its own; the results in order.

    After the first failure, or Ctrl-C, none begins, and `stop` is called, at which those under way are to end
    by raising `stopped`; the failure is raised once none is running.
    """
    with ThreadPoolExecutor(count, thread_name_prefix="mp-file") as pool:
        futures: list[Future[R]] = []

        def end() -> None:
            for future in futures:
                future.cancel()
            stop()

        try:
            futures.extend(pool.submit(act, item) for item in items)
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = any(future.done() and future.exception() for future in futures)
        except BaseException:
            end()
            raise
        if failed:
            end()
    return [future.result() for future in _telling(futures, stopped)]


def _telling(futures: list[Future[R]], stopped: type[BaseException]) -> list[Future[R]]:
    """The failed one that says why, where there is any; else all."""
    failed = [future for future in futures if not future.cancelled() and future.exception() is not None]
    why = [future for future in failed if not isinstance(future.exception(), stopped)]
    return why or failed or futures
