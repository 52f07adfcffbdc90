"""A directory brought up to date in place: only blocks that differ are written.

Relies on compare, content and files. Promises: a file that is not patched whole is replaced whole; links are
never written through; what is there beside the commit's files stays. A crash leaves a mixture of old and new
blocks that the next update completes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from mpstore import files
from mpstore.errors import UsageError
from mpstore.events import Task
from mpstore.export.compare import FileOnDisk, regular_size
from mpstore.export.content import FileContent


def prepare_parents(target: str, path: str) -> str:
    """The full path of a file below `target`, its directories made; a link among them is refused."""
    directory = target
    for part in path.split("/")[:-1]:
        directory = os.path.join(directory, part)
        if os.path.islink(directory) or (os.path.lexists(directory) and not os.path.isdir(directory)):
            raise UsageError(
                f"{directory} is no directory of its own", hint="remove it, or check out elsewhere"
            )
    files.make_directories(directory)
    return os.path.join(target, *path.split("/"))


def is_patchable(path: str, content: FileContent) -> bool:
    """A regular file of the right size that has no other name (the Hub's cache shares files by links)."""
    return regular_size(path) == content.size and os.lstat(path).st_nlink == 1


def patch(pool: ThreadPoolExecutor, path: str, content: FileContent, task: Task) -> int:
    """Rewrite the blocks of the file that differ; returns the bytes written."""
    head = len(content.prefix)
    written = 0
    with FileOnDisk(path) as old, files.PatchedFile(path) as new:
        if not old.has_prefix(content):
            new.write_at(0, content.prefix)
            written += head

        def patch_group(rows: range) -> tuple[int, int]:
            wrong = old.differing(content, rows)
            for row, raw in zip(wrong, content.run.read(wrong) if wrong else [], strict=True):
                new.write_at(head + int(content.run.offsets[row]), raw)
            size = int(content.run.offsets[rows.stop] - content.run.offsets[rows.start])
            return size, sum(int(content.run.lengths[row]) for row in wrong)

        for size, changed in pool.map(patch_group, content.run.groups()):
            written += changed
            task.advance(size)
        if written:
            new.fsync()
    return written
