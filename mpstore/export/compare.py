"""A file on disk against the content it should have, block by block.

Relies on content. Promises: reads each byte of the file once, nothing of the store; equal means that the hash
of every block is the recorded one.
"""

from __future__ import annotations

import os
import stat

import numpy as np

from mpstore.errors import StorageError
from mpstore.export.content import Bytes, FileContent
from mpstore.ids import block_id


def regular_size(path: str) -> int | None:
    """Bytes of the regular file at `path`, links not followed; None: there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
    return found.st_size if stat.S_ISREG(found.st_mode) else None


class FileOnDisk:
    """A file opened for reading at any place, by any thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror or error}") from error

    def __enter__(self) -> FileOnDisk:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, offset: int, size: int) -> Bytes:
        """`size` bytes, fewer where the file ends."""
        buffer = np.empty(size, np.uint8)
        done = 0
        try:
            while done < size and (got := os.preadv(self._fd, [buffer.data[done:]], offset + done)):
                done += got
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror or error}") from error
        return buffer[:done]

    def has_prefix(self, content: FileContent) -> bool:
        return self.read(0, len(content.prefix)).tobytes() == content.prefix

    def differing(self, content: FileContent, rows: range) -> list[int]:
        """Those of the blocks at `rows` that are not what they should be."""
        run, head = content.run, len(content.prefix)
        start = int(run.offsets[rows.start])
        data = self.read(head + start, int(run.offsets[rows.stop]) - start)
        found = []
        for row in rows:
            at = int(run.offsets[row]) - start
            if block_id(data[at : at + int(run.lengths[row])].data) != run.id(row):
                found.append(row)
        return found
