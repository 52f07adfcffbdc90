"""One file of a checkout: decoded in threads, written where it belongs, hashed in order.

Relies on content, hashing and files. Promises: the file has its name once its SHA-256 is the recorded one;
memory is bounded by `depth` groups of blocks a file.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from mpstore import files
from mpstore.errors import DamagedError, UsageError
from mpstore.events import Task
from mpstore.export.content import Bytes, FileContent, joined
from mpstore.hashing import Hashing
from mpstore.ids import Buffer
from mpstore.pipeline import OrderedPipeline

_UNHASHED: Final = 4  # groups decoded whose hash may lag behind


class FileWriter:
    """Writes files in a pool. For any number of threads, a file each; `task` hears of every byte."""

    def __init__(self, pool: ThreadPoolExecutor, depth: int, hashing: Hashing, task: Task) -> None:
        self._pool = pool
        self._depth = depth
        self._hashing = hashing
        self._task = task

    def write(self, content: FileContent, path: str) -> None:
        """Write a file. DamagedError: its SHA-256 is not the recorded one."""
        if os.path.isdir(path) and not os.path.islink(path):
            raise UsageError(f"{path} is a directory, and should become a file", hint="remove it")
        # A merge's weights have no SHA-256 to compare with; their blocks are verified like all others.
        checked = _Checked(content, self._hashing) if content.sha256 else None
        with checked or contextlib.nullcontext(), files.StagedFile(os.path.dirname(path)) as staged:
            self._fill(staged, content, checked)
            if checked is not None:
                checked.finish()
            staged.publish(path)

    def _fill(self, staged: files.StagedFile, content: FileContent, checked: _Checked | None) -> None:
        head = len(content.prefix)
        if head:
            staged.write_at(0, content.prefix)
            if checked is not None:
                checked.take(content.prefix)

        def decode(rows: range) -> list[Bytes]:
            pieces = joined(content.run.read(rows))
            at = head + int(content.run.offsets[rows[0]])
            for piece in pieces:
                staged.write_at(at, piece)
                at += piece.size
            return pieces

        def consume(raws: list[Bytes]) -> None:
            if checked is not None:
                for raw in raws:
                    checked.take(raw.data)
            self._task.advance(sum(raw.size for raw in raws))

        with OrderedPipeline(self._pool, self._depth) as pipeline:
            groups = content.run.groups()
            for place, rows in enumerate(groups):
                for ahead in groups[place + self._depth if place else 0 : place + self._depth + 1]:
                    content.run.prefetch(ahead)
                pipeline.submit(partial(decode, rows), consume)


class _Checked:
    """The SHA-256 of a file being written, against the recorded one. A context manager."""

    def __init__(self, content: FileContent, hashing: Hashing) -> None:
        self._content = content
        self._own = hashing.begin(content.size)
        self._unhashed: deque[Future[None]] = deque()

    def __enter__(self) -> None:
        self._own.__enter__()

    def __exit__(self, *_: object) -> None:
        self._own.__exit__()

    def take(self, data: Buffer) -> None:
        """The next bytes, which must not change any more. What waits to be hashed is bounded."""
        while len(self._unhashed) >= _UNHASHED:
            self._unhashed.popleft().result()
        self._unhashed.append(self._own.submit(data))

    def finish(self) -> None:
        """DamagedError: the sum is another."""
        found, recorded = self._own.digest(), self._content.sha256
        if found != recorded:
            raise DamagedError(
                f"{self._content.path}: SHA-256 is {found.hex()}, recorded is {recorded.hex()}",
                hint="every block is whole, so its manifest is wrong; `mp fsck` tells more",
            )
