"""Several transfers at a time.

Relies on hub. Promises: after the first failure, or Ctrl-C, none begins and those under way end at their next
bytes; the failure is raised once none is running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from mpstore.remotes.hub import Hub, Stopped

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(hub: Hub, act: Callable[[T], R], items: Iterable[T], count: int) -> list[R]:
    """`act` of every item, at most `count` at a time; the results in order."""
    with ThreadPoolExecutor(count, thread_name_prefix="mp-transfer") as pool:
        futures = [pool.submit(act, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = any(future.done() and future.exception() for future in futures)
        except BaseException:
            _stop(hub, futures)
            raise
        if failed:
            _stop(hub, futures)
    return [future.result() for future in _telling(futures)]


def _stop(hub: Hub, futures: list[Future[R]]) -> None:
    for future in futures:
        future.cancel()
    hub.stop()


def _telling(futures: list[Future[R]]) -> list[Future[R]]:
    """The failed one that says why, where there is any; else all."""
    failed = [future for future in futures if not future.cancelled() and future.exception() is not None]
    why = [future for future in failed if not isinstance(future.exception(), Stopped)]
    return why or failed or futures
