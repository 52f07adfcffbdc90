"""How a directory stands against a revision: which files are the same, changed, missing or new.

Relies on diff's sides, checkpoint_dir and revisions. Promises: every file of both is named once; the
directory is hashed once, however many branches it is held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mpstore import checkpoint_dir, revisions
from mpstore.diff import Directory, Stored, TensorShape
from mpstore.errors import NotFoundError
from mpstore.events import Progress
from mpstore.ids import ObjectId
from mpstore.records.model import Manifest
from mpstore.repository import Repo


@dataclass(frozen=True)
class FileStatus:
    """One file. changed_tensors: how many of its tensors differ (0 for an opaque file)."""

    path: str
    state: Literal["equal", "changed", "missing", "new"]
    changed_tensors: int = 0


@dataclass(frozen=True)
class Status:
    """A directory against the commit of `revision`."""

    revision: str
    commit: ObjectId
    files: tuple[FileStatus, ...]

    @property
    def clean(self) -> bool:
        return all(file.state == "equal" for file in self.files)


def status(repo: Repo, directory: Path, revision: str | None, progress: Progress) -> Status:
    """Compare; without a revision, with the branch that has the most files and tensors in common."""
    here = Hashed(Directory(checkpoint_dir.scan(directory)))
    names = [revision] if revision is not None else _branches(repo)
    task = progress.task("comparing", len(names), "revisions")
    try:
        found = []
        for name in names:
            found.append(_against(repo, name, here))
            task.advance(1)
    finally:
        task.finish()
    return min(found, key=_distance)


def _branches(repo: Repo) -> list[str]:
    names = [revisions.short_name(repo, name) for name in repo.refs.names("heads/")]
    if not names:
        raise NotFoundError("there is no branch to compare with", hint="mp add stores a checkpoint")
    return names


def _distance(status: Status) -> tuple[int, int]:
    differing = sum(file.state != "equal" for file in status.files)
    return sum(file.changed_tensors for file in status.files) + differing, differing


class Hashed:
    """A directory whose tensors are hashed once for each partition that is asked for."""

    def __init__(self, directory: Directory) -> None:
        self.shapes = directory.tensors()
        self.files = directory.files()
        self.block_ids = cache(directory.block_ids)
        self.sha256 = cache(directory.sha256)


def _against(repo: Repo, revision: str, here: Hashed) -> Status:
    commit = revisions.resolve(repo, revision)
    manifest_id = repo.commit(commit).manifest
    manifest = repo.manifest(manifest_id)
    there = Stored(repo, manifest, manifest_id)
    files = [_file(path, manifest, there, here) for path in sorted({*here.files, *there.files()})]
    return Status(revision, commit, tuple(files))


def _file(path: str, manifest: Manifest, there: Stored, here: Hashed) -> FileStatus:
    old, new = there.files().get(path), here.files.get(path)
    if old is None or new is None:
        return FileStatus(path, "new" if old is None else "missing")
    entry = next(entry for entry in manifest.files if entry.path == path)
    shapes = there.tensors()
    lacking = any(not manifest.tensors[key] for key in entry.tensors)
    if lacking and old == new and entry.sha256 == here.sha256(path):  # which speaks of what lacks, too
        return FileStatus(path, "equal")
    changed = sum(not _same(key, shapes.get(key), there, here) for key in entry.tensors)
    same = old[1] == new[1] and not changed
    return FileStatus(path, "equal" if same else "changed", changed)


def _same(key: str, shape: TensorShape | None, there: Stored, here: Hashed) -> bool:
    found = here.shapes.get(key)
    if shape is None or found is None or (shape.dtype, shape.shape) != (found.dtype, found.shape):
        return False
    size = shape.block_elements
    return there.block_ids(key, size) == here.block_ids(key, size)
