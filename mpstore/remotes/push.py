"""`mp push`: a revision to the Hub, file by file streamed from the store.

Relies on hub and stored_file. Promises: no checkout is made; what the Hub has by SHA-256 is not sent; the
commit is made on the parent that was looked at, or not at all, and is never sent twice.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from mpstore.errors import ConflictError, RemoteError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short, to_hex
from mpstore.remotes.address import Address
from mpstore.remotes.hub import Hub, status_of
from mpstore.remotes.listing import HubModel
from mpstore.remotes.stored_file import StoredFile, StoredStream
from mpstore.repository import Repo


@dataclass(frozen=True)
class PushResult:
    """What a push did. `parent` and `remote_commit` are the Hub's commits before and after."""

    address: Address
    commit: ObjectId
    parent: str
    remote_commit: str
    url: str
    new: bool
    sent_files: int
    raw_bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "repo": self.address.repo_id,
            "commit": to_hex(self.commit),
            "parent": self.parent,
            "remote_commit": self.remote_commit,
            "url": self.url,
            "new": self.new,
            "files": self.sent_files,
            "raw_bytes": self.raw_bytes,
            "seconds": self.seconds,
        }


def push(
    repo: Repo,
    hub: Hub,
    commit_id: ObjectId,
    address: Address,
    *,
    private: bool = False,
    branch: str | None = None,
    message: str = "",
    progress: Progress = silent,
) -> PushResult:
    """Make `address` (its branch `branch`, None: main) hold exactly the files of a commit.

    The repository and the branch are created where they are missing. ConflictError: somebody committed there
    meanwhile; both hashes are in the message. RemoteError: anything else the Hub says.
    """
    started = time.monotonic()
    hub.check_online()
    target = Address(address.repo_id, branch or address.revision)
    _ensure(hub, target, private)
    before = hub.resolve(target)
    commit = repo.commit(commit_id)
    manifest = repo.manifest(commit.manifest)
    stored = {entry.path: StoredFile(repo, manifest, entry) for entry in manifest.files}
    lacking = [path for path, file in stored.items() if not _has(before, path, file)]
    gone = [file.path for file in before.files if file.path not in stored and file.path != ".gitattributes"]
    raw_bytes = sum(stored[path].size for path in lacking)
    url, after = "", before.commit
    if lacking or gone:
        meter = _Meter(progress, target, raw_bytes)
        try:
            title = message or commit.message or f"mp push {short(commit_id)}"
            text = f"{title}\n\nmp-commit: {to_hex(commit_id)}"
            additions = {path: stored[path] for path in lacking}
            url, after = _commit(hub, target, before, additions, gone, text, meter)
        finally:
            meter.finish()
    seconds = round(time.monotonic() - started, 3)
    new = bool(lacking or gone)
    return PushResult(target, commit_id, before.commit, after, url, new, len(lacking), raw_bytes, seconds)


def _has(model: HubModel, path: str, stored: StoredFile) -> bool:
    file = model.file(path)
    if file is None or file.size != stored.size:
        return False
    if file.sha256 is not None:
        return file.sha256 == stored.sha256()
    return file.blob_id == stored.git_blob_id()


def _ensure(hub: Hub, target: Address, private: bool) -> None:
    """Create the repository and the branch where they are missing. Both calls may be repeated safely."""

    def create() -> None:
        hub.api.create_repo(target.repo_id, private=private, exist_ok=True)
        if target.revision:
            hub.api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)

    hub.retrying(create, str(target))


class _Meter:
    """A push reads every file twice: for its hash, and to send it (unless the Hub has it)."""

    def __init__(self, progress: Progress, target: Address, raw_bytes: int) -> None:
        self._progress = progress
        self._target = target
        self._raw_bytes = raw_bytes
        self._lock = threading.Lock()
        self._task = progress.task(f"hashing for {target}", raw_bytes, "bytes")

    def sending(self) -> None:
        """All is hashed: what is read from here on is sent."""
        with self._lock:
            self._task.finish()
            self._task = self._progress.task(f"pushing to {self._target}", self._raw_bytes, "bytes")

    def taken(self, count: int) -> None:
        with self._lock:
            self._task.advance(count)

    def finish(self) -> None:
        self._task.finish()


def _commit(
    hub: Hub,
    target: Address,
    before: HubModel,
    additions: dict[str, StoredFile],
    gone: list[str],
    text: str,
    meter: _Meter,
) -> tuple[str, str]:
    """One commit on top of `before`; not retried: a lost answer may be of a commit that was made."""
    streams = {path: StoredStream(file, meter.taken) for path, file in additions.items()}
    operations = hub.operations(streams, gone)
    meter.sending()
    title, _, description = text.partition("\n")
    try:
        made = hub.api.create_commit(
            target.repo_id,
            operations,
            commit_message=title,
            commit_description=description.strip(),
            revision=target.revision,
            parent_commit=before.commit,
        )
    except Exception as error:
        status = status_of(error)
        if status == 412:
            raise _lost_race(hub, target, before) from error
        failure = hub.translate(error, str(target))
        refused = status is not None and 400 <= status < 500
        if isinstance(failure, RemoteError) and not refused:
            raise RemoteError(
                failure.message,
                hint="whether the commit was made is not known; `mp push` again looks first",
            ) from error
        raise failure from error
    return str(made.commit_url), str(made.oid)


def _lost_race(hub: Hub, target: Address, before: HubModel) -> ConflictError:
    now = hub.resolve(target).commit
    return ConflictError(
        f"{target} has moved while we pushed: from {before.commit} to {now}; nothing was changed",
        hint=f"`mp pull {target} --branch NAME` shows what came; push again to replace it",
    )
