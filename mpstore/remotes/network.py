"""Bytes that came over the network, counted by whoever received them.

Relies on events. Promises: exact under threads.
"""

from __future__ import annotations

import threading

from mpstore.events import Task


class Traffic:
    """Counts received and spared bytes; tells a progress task, one thread at a time."""

    def __init__(self, task: Task | None = None) -> None:
        self._task = task
        self._lock = threading.Lock()
        self.received_bytes = 0
        self.spared_bytes = 0

    def add(self, count: int) -> None:
        with self._lock:
            self.received_bytes += count
            if self._task is not None:
                self._task.advance(count)

    def spared(self, count: int) -> None:
        """Bytes that were expected and did not have to come."""
        with self._lock:
            self.spared_bytes += count
            if self._task is not None:
                self._task.advance(count)
