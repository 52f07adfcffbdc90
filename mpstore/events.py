"""Progress as a sink that is passed in: the engine tells, the command line shows.

Relies on nothing. Promises: `silent` may be passed anywhere; a sink's methods are called from one
thread at a time by the code that owns the task (workers report through their pipeline's collector, or the
task is a `SharedTask`).
"""

from __future__ import annotations

import threading
from typing import Protocol


class Task(Protocol):
    """One running piece of work with a known or unknown total."""

    def advance(self, amount: int) -> None: ...

    def finish(self) -> None: ...


class Progress(Protocol):
    """Where progress and warnings go."""

    def task(self, label: str, total: int | None, unit: str) -> Task: ...

    def warn(self, message: str) -> None: ...


class SharedTask:
    """A task that several threads may advance."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._task.advance(amount)

    def finish(self) -> None:
        with self._lock:
            self._task.finish()


class _SilentTask:
    def advance(self, amount: int) -> None:
        del amount

    def finish(self) -> None:
        return None


class Silent:
    """A sink that keeps nothing."""

    def task(self, label: str, total: int | None, unit: str) -> Task:
        del label, total, unit
        return _SilentTask()

    def warn(self, message: str) -> None:
        del message


silent: Progress = Silent()
