"""Files of a checkout: decoded in threads, written where it belongs, hashed part by part, side by side.

Relies on content, hashing, hash_points and files. Promises: a file has its name once its SHA-256 is the
recorded one; memory is bounded by some groups of blocks a part under way. What that SHA-256 proves is not
hashed block by block as well, until it is wrong: then the file is written once more, every block verified.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from mpstore import files
from mpstore.errors import DamagedError, UsageError
from mpstore.events import Task
from mpstore.export.content import GROUP_BYTES, Bytes, FileContent, joined
from mpstore.export.digest import Digest
from mpstore.hash_points import HashPoints, Part
from mpstore.hashing import FileHash, Hashing, Lagging
from mpstore.ids import Buffer
from mpstore.pipeline import OrderedPipeline

_LEAST_DEPTH: Final = 2
_UNHASHED: Final = 4  # groups decoded whose hash may lag behind
_LARGE_BYTES: Final = 16 << 20  # smaller files find their room as they are written


@dataclass(frozen=True)
class Workshop:
    """What files are written with, `groups` of blocks of them at a time; `task` hears of every byte."""

    pool: ThreadPoolExecutor
    groups: int
    hashing: Hashing
    points: HashPoints
    task: Task

    def digest(self, content: FileContent) -> Digest:
        """What a file that has a recorded SHA-256 must come to."""
        return Digest(content.path, content.sha256, content.size, self.hashing, self.points)


class FileWriter:
    """Writes files, each in parts. A context manager: on leaving, what is not complete is discarded."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._parts: list[tuple[_Output, Part]] = []

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for output, _part in self._parts:
            output.discard()

    def add(self, content: FileContent, path: str) -> None:
        """Have `run` write this file."""
        if os.path.isdir(path) and not os.path.islink(path):
            raise UsageError(f"{path} is a directory, and should become a file", hint="remove it")
        # A merge's weights have no SHA-256 to compare with; their blocks are verified like all others.
        digest = self._shop.digest(content) if content.sha256 else None
        parts = [Part(0, content.size)] if digest is None else digest.parts()
        output = _Output(self._shop, content, digest, path, len(parts))
        self._parts += [(output, part) for part in parts]

    def run(self) -> None:
        """Write the files, as many parts at once as pays; the last part to end gives a file its name.
        DamagedError: the SHA-256 of one is not the recorded one."""
        hashing = self._shop.hashing
        large = sum(part.stop - part.start > GROUP_BYTES for _, part in self._parts)  # others are one group
        depth = max(_LEAST_DEPTH, self._shop.groups // hashing.at_once(large))
        hashing.each([partial(output.write, part, depth) for output, part in self._parts])


class _Output:
    """A file being written by as many threads as it has parts, or fewer."""

    def __init__(
        self, shop: Workshop, content: FileContent, digest: Digest | None, path: str, parts: int
    ) -> None:
        self._shop = shop
        self._content = content
        self._digest = digest
        self._path = path
        self._left = parts
        self._in_doubt = False
        self._staged: files.StagedFile | None = None
        self._lock = threading.Lock()

    def discard(self) -> None:
        """Remove what has no name yet."""
        if self._staged is not None:
            self._staged.discard()

    def write(self, part: Part, depth: int) -> None:
        """Write and check a part, so many groups of blocks at a time."""
        with self._lock:
            if self._staged is None:
                self._staged = files.StagedFile(os.path.dirname(self._path))
                if self._content.size >= _LARGE_BYTES:
                    self._staged.reserve(self._content.size)
            staged = self._staged
        whole = True
        if self._digest is None:
            self._fill(staged, part, None, depth)
        else:
            with self._digest.begin(part) as own:
                self._fill(staged, part, own, depth)
                whole = self._digest.agrees(part, own)
        with self._lock:
            self._in_doubt = self._in_doubt or not whole
            self._left -= 1
            last = self._left == 0
        if last:
            if self._in_doubt and self._digest is not None:
                self._settle(self._digest, staged, depth)
            staged.publish(self._path)

    def _settle(self, digest: Digest, staged: files.StagedFile, depth: int) -> None:
        """Either the points were wrong, or the file is: then it is written once more, every block verified.
        DamagedError says which of them is damaged, or that none is."""
        if digest.of_file(staged.path) == digest.sha256:
            return
        whole = Part(0, self._content.size)
        with digest.begin(whole) as own:
            self._fill(staged, whole, own, depth, again=True)
            digest.expect(digest.of_all(own))

    def _fill(
        self, staged: files.StagedFile, part: Part, own: FileHash | None, depth: int, again: bool = False
    ) -> None:
        """Write a part, which `own` hashes meanwhile. `again`: verify every block, and count none."""
        run, head = self._content.run, len(self._content.prefix)
        lagging = None if own is None else Lagging(own, _UNHASHED)

        def write(data: Buffer, at: int) -> memoryview:
            """What of `data`, which is the file's from `at` on, is the part's."""
            own_data = memoryview(data)[max(0, part.start - at) : max(0, part.stop - at)]
            if len(own_data):
                staged.write_at(max(at, part.start), own_data)
            return own_data

        def read(rows: range) -> list[Bytes]:
            if own is not None and not again:
                with contextlib.suppress(DamagedError):  # which one it is, verifying tells
                    return run.read(rows, verify=False)
            return run.read(rows)

        def decode(rows: range) -> list[memoryview]:
            at, found = head + int(run.offsets[rows[0]]), []
            for piece in joined(read(rows)):
                found.append(write(piece.data, at))
                at += piece.size
            return found

        def consume(raws: list[memoryview]) -> None:
            for raw in raws:
                if lagging is not None:
                    lagging.submit(raw)
                if not again:
                    self._shop.task.advance(len(raw))

        with OrderedPipeline(self._shop.pool, depth) as pipeline:
            consume([write(self._content.prefix, 0)])
            groups = run.groups(max(0, part.start - head), max(0, part.stop - head))
            for place, rows in enumerate(groups):
                for ahead in groups[place + depth if place else 0 : place + depth + 1]:
                    run.prefetch(ahead)
                pipeline.submit(partial(decode, rows), consume)
