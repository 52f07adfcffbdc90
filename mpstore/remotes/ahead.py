"""An iterator worked ahead by a thread of its own, so that receiving and storing overlap.

Relies on the standard library. Promises: the same items in the same order, at most `depth` of them waiting;
an exception comes where the item would have; `close` ends the thread and closes the iterator.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_END: Final = object()
_LOOK_SECONDS: Final = 0.05


class Ahead(Generic[T]):
    """Use as an iterator; close it in the end."""

    def __init__(self, source: Generator[T, None, None], depth: int) -> None:
        self._source = source
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mp-receive", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for item in self._source:
                if not self._give(item):
                    break
            self._give(_END)
        except BaseException as error:  # whatever it is, it is raised where the item was awaited
            self._give(_Failure(error))
        finally:
            self._source.close()

    def _give(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Ahead[T]:
        return self

    def __next__(self) -> T:
        item = self._queue.get()
        if item is _END:
            self._queue.put(_END)
            raise StopIteration
        if isinstance(item, _Failure):
            self._queue.put(_END)
            raise item.error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
