"""`mp` as a process that is killed: SIGKILL some microseconds after its operation NUMBER on the disk began.
`python -m tests.killed_command NUMBER MICROSECONDS WORD …`."""

from __future__ import annotations

import os
import signal
import sys
import threading

from mpstore import files
from mpstore.cli.main import main


class Killer:
    def __init__(self, number: int, seconds: float) -> None:
        self.left = number
        self.timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))

    def __call__(self, operation: files.Operation) -> None:
        del operation
        self.left -= 1
        if self.left == 0:
            self.timer.start()


if __name__ == "__main__":
    files.set_observer(Killer(int(sys.argv[1]), int(sys.argv[2]) / 1e6))
    main([*sys.argv[3:], "-q"])
