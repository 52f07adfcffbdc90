"""Every error the project raises on purpose, and the exit code each one carries.

Relies on nothing. Promises: a caller that catches `MpError` catches them all, and foreign exceptions
(OSError, zstandard, msgpack, safetensors, httpx) are translated into these at the edge where they occur.

    MpError                      1   anything of ours
    ├── StorageError             1   the file system refused: disk full, read-only, permission
    ├── UsageError               2   a flag, name, parameter or recipe that cannot be meant
    │   └── RecipeError          2   a recipe, with the line and the nearest known key
    ├── NotFoundError            3   no such repository, revision, tensor or file
    │   └── AmbiguousError       3   an id prefix that fits several objects
    ├── DamagedError             4   bytes that are not what they claim to be
    ├── ConflictError            5   lost a race
    ├── BudgetError              6   budget or error bound cannot be met
    ├── RemoteError              7   the Hub, or the way to it
    ├── IncompatibleError        8   checkpoints that do not fit each other, or no checkpoint at all
    ├── HookError                9   a pre- hook said no
    └── InterruptedByUser      130   Ctrl-C
"""

from __future__ import annotations

from typing import Final


class MpError(Exception):
    """Base of the tree. `hint` says what to do next; `exit_code` is what `mp` exits with."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def say(self, message: str) -> None:
        """Put it in other words, for somebody who knows more of where it happened."""
        self.message = message
        self.args = (message,)


class StorageError(MpError):
    """The file system refused: disk full, read-only, permission. Names the path."""


class UsageError(MpError):
    """A flag, name, parameter or recipe that cannot be meant."""

    exit_code = 2


class RecipeError(UsageError):
    """A merge recipe is wrong: names the line and the nearest known key."""


class NotFoundError(MpError):
    """No such repository, revision, tensor or file."""

    exit_code = 3


class AmbiguousError(NotFoundError):
    """An id prefix fits several objects; the message lists them."""


class DamagedError(MpError):
    """Bytes that are not what they claim to be: names the file and the offset."""

    exit_code = 4


class ConflictError(MpError):
    """Lost a race: somebody else moved what we were about to move. Nothing was changed."""

    exit_code = 5


class BudgetError(MpError):
    """The budget or the error bound cannot be met; the message has the figure that would do."""

    exit_code = 6


class RemoteError(MpError):
    """The Hub, or the way to it."""

    exit_code = 7


class IncompatibleError(MpError):
    """Checkpoints that do not fit each other (shape, dtype), or a directory that is no checkpoint."""

    exit_code = 8


class HookError(MpError):
    """A pre- hook exited non-zero."""

    exit_code = 9


class InterruptedByUser(MpError):
    """Ctrl-C, or SIGTERM."""

    exit_code = 130


UNREADABLE: Final = (DamagedError, NotFoundError, StorageError)
"""Whatever keeps a record from being read: of one alone, what looks at all of them can go on."""
