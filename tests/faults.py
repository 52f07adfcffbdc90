"""A fault at one operation on the disk: an error, an interruption, a write that stops short."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from mpstore import files
from mpstore.files import Operation


class Fault:
    """Strikes at operation `number`, counted from 1; counts. `kind`: "interrupt", "short write", or the name
    of an error."""

    def __init__(self, number: int, kind: str) -> None:
        self.number = number
        self.kind = kind
        self.count = 0
        self.operation: Operation | None = None

    def __call__(self, operation: Operation) -> int | None:
        self.count += 1
        if self.count != self.number:
            return None
        self.operation = operation
        if self.kind == "interrupt":
            raise KeyboardInterrupt
        if self.kind == "short write":
            return 1 if operation.kind == "write" else None
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number))

    @property
    def met(self) -> bool:
        """Whether there was such an operation."""
        return self.count >= self.number


@contextlib.contextmanager
def striking(fault: Fault) -> Iterator[Fault]:
    """The fault lies in wait meanwhile."""
    files.set_observer(fault)
    try:
        yield fault
    finally:
        files.set_observer(None)
