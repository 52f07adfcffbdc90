"""`mp pull`: a model of the Hub into the store, in one pass, verified, resumable.

Relies on pull_plan, fetching and the CheckpointWriter. Promises: headers are read and checked before weights;
every file's SHA-256 is the Hub's before a commit names it; a file that a branch has is not transferred;
no copy is made beside the store; on any failure no ref has moved and the next pull goes on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpstore.errors import RemoteError, StorageError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short, to_hex
from mpstore.ingest.base_search import FoundBase
from mpstore.ingest.checkpoint_writer import Committed
from mpstore.remotes.address import Address
from mpstore.remotes.fetching import Fetch
from mpstore.remotes.hub import Hub
from mpstore.remotes.listing import HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin
from mpstore.remotes.pull_plan import look
from mpstore.repository import Repo
from mpstore.store import WriteSummary


@dataclass(frozen=True)
class PullResult:
    """What a pull did. `received_bytes`: files' content that came over the network. Where nothing was new,
    `committed` is what the branch has, not `created`."""

    branch: str
    address: Address
    revision: str
    commit: ObjectId
    base: str | None
    received_bytes: int
    resumed_bytes: int
    seconds: float
    committed: Committed

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp add --json`, and the origin's and the network's."""
        done = self.committed
        return {
            "branch": self.branch,
            "commit": to_hex(self.commit),
            "manifest": to_hex(done.manifest),
            "origin": {"repo": self.address.repo_id, "commit": self.revision},
            "new": done.created,
            "tensors": done.tensors,
            "blocks": done.blocks,
            "new_blocks": done.new_blocks,
            "raw_bytes": done.raw_bytes,
            "stored_bytes": done.summary.stored_bytes,
            "received_bytes": self.received_bytes,
            "resumed_bytes": self.resumed_bytes,
            "base": self.base,
            "seconds": self.seconds,
        }


def pull(
    repo: Repo,
    hub: Hub,
    address: Address,
    branch: str,
    *,
    base: ObjectId | None = None,
    base_name: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    model: HubModel | None = None,
    search: bool = True,
    message: str = "",
    author: str = "",
    progress: Progress = silent,
    threads: int | None = None,
) -> PullResult:
    """Fetch a model and commit it on a branch. `model`: see `look`; `search`: a base that is not
    given is looked for.

    Errors: RemoteError, DamagedError (bytes are not what the Hub's hash says), IncompatibleError (only
    pickled weights), ConflictError; RemoteError also where the disk is full.
    """
    started = time.monotonic()
    tip = repo.tip(branch)
    plan = look(repo, hub, address, branch, include, exclude, model)
    if plan.current and tip is not None:
        standing = _standing(repo, tip)
        seconds = round(time.monotonic() - started, 3)
        return PullResult(branch, address, plan.model.commit, tip, None, 0, 0, seconds, standing)
    task = progress.task(f"pulling {address}", plan.lacking_bytes, "bytes")
    traffic = Traffic(task)
    try:
        fetch = Fetch(repo, hub, plan, traffic)
        fetch.headers()
        found = None if base is None else FoundBase(base_name or short(base), base)
        if base is None and search:
            found = fetch.base(branch)
        origin = Origin(address.repo_id, address.revision, plan.model.commit, tuple(include), tuple(exclude))
        how = _how(origin, found)
        with fetch.writer(found, threads, progress) as writer:
            fetch.files(writer)
            committed = writer.commit(branch, tip, author=author, message=message, how=how)
        fetch.forget()
    except StorageError as error:  # a disk that is full: a pull that broke off, like any other
        raise RemoteError(
            error.message, hint="what came is kept: the same command goes on from there"
        ) from error
    finally:
        task.finish()
    return PullResult(
        branch,
        address,
        plan.model.commit,
        committed.commit,
        None if found is None else found.branch,
        traffic.received_bytes,
        traffic.spared_bytes,
        round(time.monotonic() - started, 3),
        committed,
    )


def _standing(repo: Repo, tip: ObjectId) -> Committed:
    """A commit that is there already, as if its files had come once more."""
    manifest_id = repo.commit(tip).manifest
    manifest = repo.manifest(manifest_id)
    blocks = sum(tensor.blocks for tensor in repo.tensors(manifest).values())
    raw_bytes = sum(file.size for file in manifest.files)
    nothing = WriteSummary(0, 0, 0, 0, 0)
    return Committed(tip, manifest_id, False, len(manifest.tensors), blocks, 0, raw_bytes, nothing)


def _how(origin: Origin, base: FoundBase | None) -> dict[str, Any]:
    """What the commit says of how it was made."""
    how: dict[str, Any] = {"verb": "pull", "origin": origin.as_json()}
    return how if base is None else {**how, "base": to_hex(base.commit)}
