"""Names on the disk: made, changed, removed, made durable.

Relies on operations and processes. Promises: what two processes do at once ends as if one had gone first.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from typing import Final

from mpstore import processes
from mpstore.errors import NotFoundError
from mpstore.files.operations import Path, announce, translated

_numbers = itertools.count(1)
_NO_SECOND_NAME: Final = {
    errno.ENOENT, errno.EEXIST, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP
}  # fmt: skip


def fsync_directory(path: Path) -> None:
    """Make the names in the directory durable."""
    with translated(path):
        announce("fsync_dir", path)
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directories(path: Path, within: Path | None = None) -> None:
    """Create the directory and its missing parents, each durable in its parent. It may exist already.

    `within`: what is never made, but must be there. NotFoundError: it was moved away, or removed.
    """
    missing = []
    directory = os.path.abspath(path)
    outermost = None if within is None else os.path.abspath(within)
    while not os.path.isdir(directory):
        if directory == outermost:
            raise NotFoundError(f"{directory} is gone", hint="it was moved or removed meanwhile")
        missing.append(directory)
        directory = os.path.dirname(directory)
    if _is_unsettled(directory):
        fsync_directory(os.path.dirname(directory))
    for directory in reversed(missing):
        with translated(directory):
            announce("mkdir", directory)
            with contextlib.suppress(FileExistsError):  # somebody else was faster
                os.mkdir(directory)
        fsync_directory(os.path.dirname(directory))


def _is_unsettled(directory: str) -> bool:
    """Whether who made the directory may have been killed before its name was durable: nothing has been put
    in it yet. Who may not write to its parent is in nobody's place who may."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return next(entries, None) is None and os.access(os.path.dirname(directory), os.R_OK | os.W_OK)
    return False


def remove(path: Path) -> bool:
    """Unlink a file. False: it was not there."""
    with translated(path):
        announce("unlink", path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
    return True


def remove_directory(path: Path) -> bool:
    """Remove an empty directory. False: it was not there, or is not empty."""
    with translated(path):
        announce("rmdir", path)
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return False
        except OSError:
            if os.path.isdir(path) and os.listdir(path):
                return False
            raise
    return True


def rename(old: Path, new: Path) -> bool:
    """Give a file or directory another name, replacing a file that has it. False: `old` was not there.

    Not durable until `fsync_directory` of both directories.
    """
    with translated(old):
        announce("rename", old, new)
        while True:
            try:
                os.rename(old, new)
                return True
            except FileNotFoundError:
                if not os.path.lexists(old):
                    return False
                if not os.path.isdir(os.path.dirname(new) or "."):
                    raise
                # it was away, and is there again: two gcs hand it to and fro


def link(old: Path, new: Path) -> bool:
    """Give a file a second name, which nothing has. False: `old` was not there, `new` was, or the file system
    has no second names."""
    with translated(old):
        announce("link", old, new)
        try:
            os.link(old, new)
        except OSError as error:
            if error.errno in _NO_SECOND_NAME:
                return False
            raise
    return True


def remove_tree(path: Path) -> None:
    """Remove a directory and what lies in it; links are removed, not followed. It may be gone already."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove(path)
        return
    with translated(path):
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            remove(entry.path)
    remove_directory(path)


def staging_name(tmp_dir: Path) -> str:
    """A fresh name in tmp_dir that tells which process it belongs to (`processes.parse` of the base name)."""
    return os.path.join(tmp_dir, f"{processes.current().token}-{next(_numbers)}")
