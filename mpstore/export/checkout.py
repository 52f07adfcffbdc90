"""A commit as a directory: byte for byte, whole or not at all.

Relies on content, writing, update, selection and files. Promises: every file is checked against its recorded
size and SHA-256 before the directory appears; it appears by one rename; no path leaves it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mpstore import files, processes
from mpstore.checkpoint_dir import check_path
from mpstore.errors import StorageError, UsageError
from mpstore.events import Progress, SharedTask, silent
from mpstore.export import update as updating
from mpstore.export.content import GROUPS_PER_THREAD, FileContent, file_content
from mpstore.export.selection import check_kept, select
from mpstore.export.writing import FileWriter, Workshop
from mpstore.hash_points import HashPoints
from mpstore.hashing import Hashing
from mpstore.ids import ObjectId, short
from mpstore.pipeline import thread_count
from mpstore.repository import Repo


@dataclass(frozen=True)
class CheckoutResult:
    """raw_bytes: the files' sizes together; written_bytes: what had to be written of them."""

    directory: str
    commit: ObjectId
    files: int
    raw_bytes: int
    written_bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For `mp checkout --json`."""
        return {**vars(self), "commit": self.commit.hex()}


def checkout(
    repo: Repo,
    commit: ObjectId,
    directory: str | os.PathLike[str],
    *,
    tensors: Sequence[str] = (),
    force: bool = False,
    update: bool = False,
    progress: Progress = silent,
    threads: int | None = None,
) -> CheckoutResult:
    """Write the commit's files into `directory`, which must not exist or be empty.

    `tensors`: globs; then one file, model.safetensors, holds the tensors whose key fits any of them. `force`:
    replace what is there. `update`: bring the directory up to date in place, rewriting only what differs (not
    atomic: a crash leaves a mixture that the same command completes). UsageError: the directory is not empty,
    or holds the repository; NotFoundError: no tensor fits, or was never fetched; DamagedError; StorageError.
    """
    started = time.monotonic()
    target = _target(repo, directory, force, update)
    manifest = repo.manifest(repo.commit(commit).manifest)
    if tensors:
        contents = [select(repo, manifest, tensors)]
        if update:
            check_kept(target, tensors, manifest)
    else:
        contents = [file_content(repo, manifest, entry) for entry in manifest.files]
    for content in contents:
        check_path(content.path)
    workers = thread_count(threads, repo.config.threads)
    raw_bytes = sum(content.size for content in contents)
    task = SharedTask(progress.task(f"checking out {short(commit)}", raw_bytes, "bytes"))
    with Hashing() as hashing, ThreadPoolExecutor(workers, thread_name_prefix="mp-decode") as pool:
        groups = workers * GROUPS_PER_THREAD
        job = _Job(Workshop(pool, groups, hashing, HashPoints(repo.root), task))
        in_place = update and os.path.isdir(target)
        written = job.update(target, contents) if in_place else job.replace(target, contents)
    task.finish()
    seconds = round(time.monotonic() - started, 3)
    return CheckoutResult(os.fspath(directory), commit, len(contents), raw_bytes, written, seconds)


def _target(repo: Repo, directory: str | os.PathLike[str], force: bool, update: bool) -> str:
    """The directory to write, as a real path; UsageError where it must not be."""
    target = os.path.realpath(directory)
    name = os.fspath(directory)
    if force and update:
        raise UsageError("--force replaces the directory, --update keeps it: give one of them")
    root = os.path.realpath(repo.root)
    if target == root or target.startswith(root + os.sep):
        raise UsageError(f"{name} lies inside the repository's own {os.path.basename(root)}")
    if not os.path.lexists(target):
        return target
    if not os.path.isdir(target):
        raise UsageError(f"{name} is not a directory")
    if update or not _entries(target):
        return target
    if not force:
        raise UsageError(
            f"{name} is not empty", hint="--force replaces it, --update rewrites only what differs in it"
        )
    if root.startswith(target.rstrip(os.sep) + os.sep):
        raise UsageError(f"{name} holds the repository: it will not be replaced")
    return target


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror or error}") from error


class _Job:
    """A directory's files being written."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def replace(self, target: str, contents: Sequence[FileContent]) -> int:
        """Build the directory beside its place, then give it its name."""
        parent, name = os.path.split(target)
        files.make_directories(parent)
        with _staged_directory(parent, name) as staged:
            self._write([(one, updating.prepare_parents(staged, one.path)) for one in contents])
            files.fsync_directory(staged)
            _put_in_place(staged, target)
        return sum(content.size for content in contents)

    def update(self, target: str, contents: Sequence[FileContent]) -> int:
        """Rewrite what differs in an existing directory."""
        written = 0
        for content in contents:
            path = updating.prepare_parents(target, content.path)
            if updating.is_patchable(path, content):
                written += updating.patch(self._shop.pool, path, content, self._shop.task)
                if content.sha256:  # all blocks are whole; whether they make up the file, it tells
                    self._shop.digest(content).check(path)
            else:
                self._write([(content, path)])
                written += content.size
        return written

    def _write(self, each: Sequence[tuple[FileContent, str]]) -> None:
        with FileWriter(self._shop) as writer:
            for content, path in each:
                writer.add(content, path)
            writer.run()


@contextlib.contextmanager
def _staged_directory(parent: str, name: str) -> Iterator[str]:
    """A directory beside the target's place; gone on leaving unless it was renamed. Those that dead
    processes left are removed."""
    prefix = f".{name}.mp-"
    for entry in _entries(parent):
        owner = processes.parse(entry.removeprefix(prefix)) if entry.startswith(prefix) else None
        if owner is not None and processes.provably_dead(owner):
            files.remove_tree(os.path.join(parent, entry))
    staged = os.path.join(parent, prefix + os.path.basename(files.staging_name(parent)))
    try:
        files.make_directories(staged)
        yield staged
    finally:
        if os.path.lexists(staged):
            with contextlib.suppress(StorageError):
                files.remove_tree(staged)


def _put_in_place(staged: str, target: str) -> None:
    """One rename; a directory that is not empty is moved aside first, and removed last."""
    parent = os.path.dirname(target)
    aside = staged + "-replaced"
    moved = os.path.isdir(target) and bool(_entries(target)) and files.rename(target, aside)
    try:
        files.rename(staged, target)
    except BaseException:
        if moved:
            files.rename(aside, target)
        raise
    files.fsync_directory(parent)
    if moved:
        with contextlib.suppress(StorageError):  # the checkout is done; a later one sweeps what is left
            files.remove_tree(aside)
