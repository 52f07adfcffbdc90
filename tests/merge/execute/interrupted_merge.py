"""A merge in a process of its own that is interrupted midway: `interrupted_merge.py ROOT OPERATOR SIGNAL`."""

from __future__ import annotations

import os
import signal
import sys

from merge_material import merge, plan

from mpstore.merge.execute.executor import Limits
from mpstore.repository import Repo


class Interrupting:
    """A progress sink that sends the process a signal once a third of the bytes are read."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self._total = 0
        self._done = 0

    def task(self, label: str, total: int | None, unit: str) -> Interrupting:
        del label, unit
        self._total = total or 0
        return self

    def advance(self, amount: int) -> None:
        self._done += amount
        if self._done * 3 > self._total:
            os.kill(os.getpid(), self._number)

    def finish(self) -> None:
        return None

    def warn(self, message: str) -> None:
        del message
        return


def main() -> None:
    root, operator, name = sys.argv[1:]
    repo = Repo.open(root)
    number = signal.Signals[name]
    progress = Interrupting(number)
    # Small memory, so that reading does not run ahead of merging; everything flushed at once for SIGKILL.
    limits = Limits(threads=1, readers=1, memory_bytes=20_000, flush_seconds=0 if name == "SIGKILL" else 100)
    try:
        merge(repo, plan(repo, operator, ("e0", "e1")), limits=limits, progress=progress)
    except KeyboardInterrupt:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


main()
