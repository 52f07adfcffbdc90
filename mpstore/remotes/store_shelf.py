"""A repository of the store as a shelf: every branch is a model, every revision of it can be named.

Relies on repository, revisions and stored_file. Promises: read-only but for the cache of computed SHA-256;
what is served is decoded and verified on the fly.

A model's name is a branch, with or without an organization before it ("merged", "local/merged"); its
revision "main" is the branch's tip, and any other revision is one of `mp`: a commit id (40 digits are
enough), a tag, another branch. A tag or commit id is a name as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from mpstore import revisions
from mpstore.errors import NotFoundError, UsageError
from mpstore.ids import Buffer, ObjectId
from mpstore.records.model import Commit, Manifest
from mpstore.remotes.shelf import (
    COMMIT_DIGITS,
    ShelfFile,
    Snapshot,
    UnknownRepository,
    UnknownRevision,
)
from mpstore.remotes.stored_file import StoredFile
from mpstore.repository import Repo

_KEPT_SNAPSHOTS = 64


class StoreShelf:
    """`Shelf` over an opened repository."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._lock = threading.Lock()
        self._snapshots: dict[ObjectId, Snapshot] = {}
        self._files: dict[tuple[str, str], StoredFile] = {}

    def repositories(self) -> list[str]:
        return [name.removeprefix("heads/") for name in self._repo.refs.names("heads")]

    def references(self, repo_id: str) -> dict[str, dict[str, str]]:
        commit = self._model(repo_id)
        tags = {
            name.removeprefix("tags/"): self._target(name).hex()[:COMMIT_DIGITS]
            for name in self._repo.refs.names("tags")
        }
        return {"branches": {"main": commit.hex()[:COMMIT_DIGITS]}, "tags": tags}

    def snapshot(self, repo_id: str, revision: str) -> Snapshot:
        commit = self._model(repo_id)
        if revision not in ("main", "HEAD"):
            try:
                commit = revisions.resolve(self._repo, revision.removeprefix("refs/"))
            except (NotFoundError, UsageError):
                raise UnknownRevision(revision) from None
        with self._lock:
            found = self._snapshots.get(commit)
        if found is None:
            found = self._describe(commit)
            with self._lock:
                while len(self._snapshots) >= _KEPT_SNAPSHOTS:
                    self._forget(next(iter(self._snapshots)))
                self._snapshots[commit] = found
        return Snapshot(repo_id, found.commit, found.files, found.title, found.time_ns)

    def read(self, snapshot: Snapshot, path: str, start: int, stop: int) -> Iterator[Buffer]:
        with self._lock:
            stored = self._files.get((snapshot.commit, path))
        if stored is None:
            commit = self._repo.commit(revisions.resolve(self._repo, snapshot.commit))
            manifest = self._repo.manifest(commit.manifest)
            entry = next(file for file in manifest.files if file.path == path)
            stored = StoredFile(self._repo, manifest, entry)
        return stored.read(start, stop)

    def _describe(self, commit_id: ObjectId) -> Snapshot:
        commit: Commit = self._repo.commit(commit_id)
        manifest: Manifest = self._repo.manifest(commit.manifest)
        name = commit_id.hex()[:COMMIT_DIGITS]
        listed = []
        for entry in manifest.files:
            stored = StoredFile(self._repo, manifest, entry)
            # all as LFS: so each is listed with its SHA-256, and no git blob id has to be computed
            listed.append(ShelfFile(entry.path, entry.size, stored.sha256().hex(), lfs=True))
            with self._lock:
                self._files[name, entry.path] = stored
        return Snapshot("", name, tuple(listed), commit.message.partition("\n")[0], commit.time_ns)

    def _forget(self, commit: ObjectId) -> None:
        snapshot = self._snapshots.pop(commit)
        for file in snapshot.files:
            self._files.pop((snapshot.commit, file.path), None)

    def _model(self, repo_id: str) -> ObjectId:
        for name in (repo_id, repo_id.partition("/")[2]):
            try:
                return revisions.resolve(self._repo, name)
            except (NotFoundError, UsageError):
                continue
        raise UnknownRepository(repo_id)

    def _target(self, name: str) -> ObjectId:
        ref = self._repo.refs.read(name)
        if ref is None:
            raise UnknownRevision(name)
        return ref.value
