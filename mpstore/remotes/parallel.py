"""Several transfers at a time.

Relies on hub and pipeline. Promises: after the first failure, or Ctrl-C, none begins and those under way end
at their next bytes; the failure is raised once none is running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from mpstore import pipeline
from mpstore.remotes.hub import Hub, Stopped

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(hub: Hub, act: Callable[[T], R], items: Iterable[T], count: int) -> list[R]:
    """`act` of every item, at most `count` at a time; the results in order."""
    return pipeline.in_parallel(act, items, count, hub.stop, Stopped)
