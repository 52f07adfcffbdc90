"""A directory against a commit: which files are what they were.

Relies on content, compare and checkpoint_dir. Promises: content decides, not times; nothing is written.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mpstore.checkpoint_dir import list_files
from mpstore.errors import NotFoundError
from mpstore.events import Progress, silent
from mpstore.export.compare import FileOnDisk
from mpstore.export.content import FileContent, file_content
from mpstore.pipeline import thread_count
from mpstore.records.model import Manifest
from mpstore.repository import Repo

State: TypeAlias = Literal["equal", "changed", "missing", "new"]


@dataclass(frozen=True)
class FileStatus:
    """missing: the commit has it, the directory not; new: the other way round."""

    path: str
    state: State


def status(
    repo: Repo,
    manifest: Manifest,
    directory: str | os.PathLike[str],
    *,
    progress: Progress = silent,
    threads: int | None = None,
) -> tuple[FileStatus, ...]:
    """Every file of the directory and of the manifest, sorted by path. NotFoundError: no such directory."""
    if not os.path.isdir(directory):
        raise NotFoundError(f"no such directory: {os.fspath(directory)}")
    there = {file.path: file for file in list_files(directory)}
    entries = {entry.path: entry for entry in manifest.files}
    task = progress.task("comparing", sum(there[path].size for path in there.keys() & entries), "bytes")
    found: list[FileStatus] = []
    with ThreadPoolExecutor(thread_count(threads, repo.config.threads), thread_name_prefix="mp-hash") as pool:
        for path in sorted(there.keys() | entries):
            if path not in entries:
                found.append(FileStatus(path, "new"))
            elif path not in there:
                found.append(FileStatus(path, "missing"))
            else:
                source = there[path]
                content = file_content(repo, manifest, entries[path])
                same = source.size == content.size and _same(pool, os.path.realpath(source.source), content)
                found.append(FileStatus(path, "equal" if same else "changed"))
                task.advance(source.size)
    task.finish()
    return tuple(found)


def _same(pool: ThreadPoolExecutor, path: str, content: FileContent) -> bool:
    with FileOnDisk(path) as file:
        return not any(pool.map(lambda rows: file.differing(content, rows), content.run.groups()))
