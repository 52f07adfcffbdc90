"""`mp pull`: a model of the Hub into the store, in one pass, verified, resumable.

Relies on hub, resuming and the CheckpointWriter. Promises: headers are read and checked before weights; every
file's SHA-256 is the Hub's before a commit names it; a file that the branch already has is not transferred;
no copy is made beside the store; on any failure no ref has moved and the next pull goes on.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from mpstore.checkpoint_dir import (
    SUFFIX,
    Checkpoint,
    SourceFile,
    check_path,
    check_weights,
    kind_of,
)
from mpstore.errors import DamagedError, IncompatibleError, NotFoundError, UsageError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short, to_hex
from mpstore.ingest.base_search import FoundBase, find_base
from mpstore.ingest.checkpoint_writer import CheckpointWriter, Committed
from mpstore.merge.stored_header import header_bytes
from mpstore.remotes.address import Address
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub, HubFile, HubModel
from mpstore.remotes.journal import Journal
from mpstore.remotes.known import KnownFiles, tips
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin, origin_of
from mpstore.remotes.partial import FetchedFile, fetched_files
from mpstore.remotes.resuming import ResumingStream, fetch_header
from mpstore.remotes.small_file import fetch_small
from mpstore.repository import Repo
from mpstore.safetensors_file import Header

_PARALLEL_FILES: Final = 4
_SMALL_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class PullPlan:
    """What a pull would bring: every file, of which the store lacks the bytes, and which commits have the
    others. `current`: the branch is at this very commit."""

    branch: str
    model: HubModel
    files: tuple[HubFile, ...]
    lacking: tuple[HubFile, ...]
    here: Mapping[HubFile, ObjectId]
    current: bool

    @property
    def lacking_bytes(self) -> int:
        return sum(file.size for file in self.lacking)


@dataclass(frozen=True)
class PullResult:
    """What a pull did. `received_bytes`: files' content that came over the network; `committed` None: nothing
    was new."""

    branch: str
    address: Address
    revision: str
    commit: ObjectId
    base: str | None
    received_bytes: int
    resumed_bytes: int
    seconds: float
    committed: Committed | None

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp add --json`, and the origin's and the network's."""
        done = self.committed
        return {
            "branch": self.branch,
            "commit": to_hex(self.commit),
            "manifest": None if done is None else to_hex(done.manifest),
            "origin": {"repo": self.address.repo_id, "commit": self.revision},
            "new": done is not None and done.created,
            "tensors": 0 if done is None else done.tensors,
            "blocks": 0 if done is None else done.blocks,
            "new_blocks": 0 if done is None else done.new_blocks,
            "raw_bytes": 0 if done is None else done.raw_bytes,
            "stored_bytes": 0 if done is None else done.summary.stored_bytes,
            "received_bytes": self.received_bytes,
            "resumed_bytes": self.resumed_bytes,
            "base": self.base,
            "seconds": self.seconds,
        }


def chosen(files: Sequence[HubFile], include: Sequence[str], exclude: Sequence[str]) -> list[HubFile]:
    """Files whose path fits a glob of `include` (none: all) and none of `exclude`. DamagedError: a path that
    leaves its directory."""

    def fits(path: str) -> bool:
        return (not include or any(fnmatchcase(path, glob) for glob in include)) and not any(
            fnmatchcase(path, glob) for glob in exclude
        )

    found = []
    for file in files:
        check_path(file.path)
        if fits(file.path):
            found.append(file)
    return found


def look(
    repo: Repo,
    hub: Hub,
    address: Address,
    branch: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    model: HubModel | None = None,
) -> PullPlan:
    """Ask the Hub what a pull would bring; nothing is written, no weights are read. `model`: what the address
    means, where that is known already."""
    model = model or hub.resolve(address)
    wanted = chosen(model.files, include, exclude)
    if include and not wanted:
        raise UsageError(f"{address}: no file fits --include {' '.join(include)}")
    check_weights(str(address), [file.path for file in wanted])
    tip = repo.tip(branch)
    origin = None if tip is None else origin_of(repo.commit(tip))
    filters = (tuple(include), tuple(exclude))
    current = (
        origin is not None
        and (origin.repo_id, origin.commit) == (address.repo_id, model.commit)
        and (origin.include, origin.exclude) == filters
        and not origin.partial
    )
    known = KnownFiles(repo, [] if current else [*([] if tip is None else [tip]), *tips(repo)])
    here = {} if current else {file: found[0] for file in wanted if (found := known.find(file)) is not None}
    lacking = () if current else tuple(file for file in wanted if file not in here)
    return PullPlan(branch, model, tuple(wanted), lacking, here, current)


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
    pickled weights), ConflictError, StorageError.
    """
    started = time.monotonic()
    tip = repo.tip(branch)
    plan = look(repo, hub, address, branch, include, exclude, model)
    if plan.current and tip is not None:
        seconds = round(time.monotonic() - started, 3)
        return PullResult(branch, address, plan.model.commit, tip, None, 0, 0, seconds, None)
    task = progress.task(f"pulling {address}", plan.lacking_bytes, "bytes")
    traffic = Traffic(task)
    try:
        fetch = _Fetch(repo, hub, plan, traffic)
        fetch.headers()
        found = None if base is None else FoundBase(base_name or short(base), base)
        if base is None and search:
            found = fetch.base(branch)
        origin = Origin(address.repo_id, address.revision, plan.model.commit, tuple(include), tuple(exclude))
        how: dict[str, Any] = {"verb": "pull", "origin": origin.as_json()}
        if found is not None:
            how["base"] = to_hex(found.commit)
        with fetch.writer(found, threads, progress) as writer:
            fetch.files(writer)
            committed = writer.commit(branch, tip, author=author, message=message, how=how)
    finally:
        task.finish()
    return PullResult(
        branch,
        address,
        plan.model.commit,
        committed.commit,
        None if found is None else found.branch,
        traffic.received_bytes,
        fetch.resumed_bytes,
        round(time.monotonic() - started, 3),
        committed,
    )


class _Fetch:
    """One pull under way."""

    def __init__(self, repo: Repo, hub: Hub, plan: PullPlan, traffic: Traffic) -> None:
        self._repo = repo
        self._hub = hub
        self._plan = plan
        self._model = plan.model
        self._here = plan.here
        self._fetched = _trusted(repo, plan.model)
        self._traffic = traffic
        self._headers: dict[str, Header] = {}
        self.resumed_bytes = 0

    def headers(self) -> None:
        """Every safetensors header, checked, before any weights."""
        for file in self._plan.files:
            if file.path.endswith(SUFFIX):
                known = self._stored_header(file)
                self._headers[file.path] = fetch_header(self._hub, self._model, file, self._traffic, known)

    def _stored_header(self, file: HubFile) -> bytes:
        commit = self._here.get(file)
        if commit is None:
            fetched = self._fetched.get(file.path)
            return b"" if fetched is None else fetched.header
        manifest = self._repo.manifest(self._repo.commit(commit).manifest)
        return header_bytes(self._repo, next(one for one in manifest.files if one.path == file.path))

    def base(self, branch: str) -> FoundBase | None:
        """The nearest known checkpoint, by a few ranges of the remote weights (where there are new ones)."""
        owners = [self._here.get(file) for file in self._plan.files if file.path in self._headers]
        if owners[0] is not None and None not in owners:
            parents = self._repo.commit(owners[0]).parents
            kept = next((parent.commit for parent in parents if parent.role == "base"), None)
            return None if kept is None else FoundBase(short(kept), kept)
        sources = tuple(
            SourceFile(file.path, file.path, "safetensors", file.size, 0, 0, 0, 0)
            for file in self._plan.files
            if file.path in self._headers
        )
        checkpoint = Checkpoint("", sources, self._headers, self._kind())
        return find_base(self._repo, checkpoint, branch, self._read_at)

    def _read_at(self, source: SourceFile, offset: int, size: int) -> bytes:
        file = self._model.file(source.path)
        if file is None:
            raise NotFoundError(f"{source.path} is not in {self._model.address}")
        buffer = bytearray(size)
        with HubStream(self._hub, self._model, file, offset, offset + size, self._traffic.add) as stream:
            stream.fill(memoryview(buffer))
        return bytes(buffer)

    def _kind(self) -> Any:
        return kind_of({file.path for file in self._plan.files}, self._headers)

    def writer(self, base: FoundBase | None, threads: int | None, progress: Progress) -> CheckpointWriter:
        layout = [(path, [t.name for t in header.tensors]) for path, header in self._headers.items()]
        return CheckpointWriter(
            self._repo,
            label=f"pull {self._model.address}",
            base=None if base is None else base.commit,
            kind=self._kind(),
            layout=layout,
            threads=threads,
            progress=progress,
        )

    def files(self, writer: CheckpointWriter) -> None:
        """All files, a few at a time; the first failure stops the others."""
        with ThreadPoolExecutor(_PARALLEL_FILES, thread_name_prefix="mp-pull") as pool:
            running = {pool.submit(self._file, writer, file) for file in self._plan.files}
            done, waiting = wait(running, return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
            for future in done:
                future.result()
            for future in waiting:
                if not future.cancelled():
                    future.result()

    def _file(self, writer: CheckpointWriter, file: HubFile) -> None:
        header = self._headers.get(file.path)
        here = self._here.get(file)
        if here is not None:
            names = () if header is None else [tensor.name for tensor in header.tensors]
            if writer.adopt(here, file.path, names) is not None:
                return
        if header is not None:
            self._safetensors(writer, file, header)
        elif file.sha256 is None and file.size <= _SMALL_BYTES:
            self._small(writer, file)
        else:
            with HubStream(self._hub, self._model, file, taken=self._traffic.add) as stream:
                writer.add_opaque(file.path, stream, file.size, file.sha256)

    def _safetensors(self, writer: CheckpointWriter, file: HubFile, header: Header) -> None:
        fetched = self._fetched.get(file.path)
        with ResumingStream(
            self._repo,
            self._hub,
            self._model,
            file,
            header,
            self._traffic,
            {} if fetched is None else fetched.blocks,
        ) as stream:
            self.resumed_bytes += stream.resumed_bytes
            try:
                writer.add_safetensors(file.path, stream, file.size, file.sha256)
            except DamagedError as error:
                stream.wrong()
                if not stream.resumed_bytes:
                    raise
                hint = (
                    "what an earlier pull or merge brought of it is wrong; pull again: all of it is fetched"
                )
                raise DamagedError(error.message, hint=hint) from error
            except IncompatibleError:
                stream.wrong()
                raise
            except BaseException:
                stream.broken()
                raise
            stream.finished()

    def _small(self, writer: CheckpointWriter, file: HubFile) -> None:
        """A file without SHA-256 in the listing: git's blob id is checked instead."""
        data = fetch_small(self._hub, self._model, file, self._traffic)
        writer.add_opaque(file.path, io.BytesIO(data), file.size)


def _trusted(repo: Repo, model: HubModel) -> dict[str, FetchedFile]:
    """What merges fetched, but for files where that has turned out to be wrong."""
    found = fetched_files(repo, model)
    return {
        path: one
        for path, one in found.items()
        if not Journal(repo.root, model.address.repo_id, model.commit, path).distrusted()
    }
