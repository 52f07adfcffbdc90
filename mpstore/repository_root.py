"""Which directories are repositories.

Relies on errors. Promises: one that is closed to us, or has lost a part, is said to be that, and never taken
for none.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from mpstore.errors import DamagedError, StorageError

DIRECTORY: Final = ".mp"


def is_repository(root: str) -> bool:
    """Whether there is a repository in `root`. StorageError: it is closed to us; DamagedError: it was one."""
    objects = os.path.join(root, "objects")
    try:
        if stat.S_ISDIR(os.stat(objects).st_mode):
            return True
    except PermissionError as error:
        if os.path.lexists(root):
            raise StorageError(f"{root}: {error.strerror}", hint="check the permissions") from None
        return False
    except OSError:
        pass
    if os.path.basename(root) == DIRECTORY and os.path.isfile(os.path.join(root, "config")):
        hint = "bring it back from a copy; `mp fsck` tells then what else is missing"
        raise DamagedError(f"{objects} is missing: this was a repository", hint=hint)
    return False


def is_used(root: str) -> bool:
    """Whether a `.mp` directory is more than what a cut-off `init` leaves."""
    if os.path.exists(os.path.join(root, "config")):
        return True
    for part in ("objects/packs", "refs/heads", "refs/tags", "logs"):
        path = os.path.join(root, part)
        if os.path.isdir(path) and os.listdir(path):
            return True
    return False
