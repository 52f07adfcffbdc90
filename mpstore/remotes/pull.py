"""`mp pull`: a model of the Hub into the store, in one pass, verified, resumable.

Relies on hub, resuming and the CheckpointWriter. Promises: headers are read and checked before weights; every
file's SHA-256 is the Hub's before a commit names it; a file that the branch already has is not transferred;
no copy is made beside the store; on any failure no ref has moved and the next pull goes on.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
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
from mpstore.records.model import FileEntry, Manifest
from mpstore.remotes.address import Address
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub, HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin, origin_of
from mpstore.remotes.partial import fetched_blocks
from mpstore.remotes.resuming import ResumingStream, fetch_header
from mpstore.remotes.small_file import fetch_small
from mpstore.remotes.stored_file import StoredFile
from mpstore.repository import Repo
from mpstore.safetensors_file import Header

_PARALLEL_FILES: Final = 4
_SMALL_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class PullPlan:
    """What a pull would bring: every file, and of which the store lacks the bytes."""

    branch: str
    model: HubModel
    files: tuple[HubFile, ...]
    lacking: tuple[HubFile, ...]
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
) -> PullPlan:
    """Ask the Hub what a pull would bring; nothing is written, no weights are read."""
    model = hub.resolve(address)
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
    known = _Known(repo, tip)
    lacking = () if current else tuple(file for file in wanted if known.find(file) is None)
    return PullPlan(branch, model, tuple(wanted), lacking, current)


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
    message: str = "",
    author: str = "",
    progress: Progress = silent,
    threads: int | None = None,
) -> PullResult:
    """Fetch a model and commit it on a branch. Errors: RemoteError, DamagedError (bytes are not what the
    Hub's hash says), IncompatibleError (only pickled weights), ConflictError, StorageError."""
    started = time.monotonic()
    tip = repo.tip(branch)
    plan = look(repo, hub, address, branch, include, exclude)
    if plan.current and tip is not None:
        seconds = round(time.monotonic() - started, 3)
        return PullResult(branch, address, plan.model.commit, tip, None, 0, 0, seconds, None)
    task = progress.task(f"pulling {address}", plan.lacking_bytes, "bytes")
    traffic = Traffic(task)
    try:
        fetch = _Fetch(repo, hub, plan, tip, traffic)
        fetch.headers()
        found = FoundBase(base_name or short(base), base) if base is not None else fetch.base(branch)
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


class _Known:
    """The complete files of a branch's tip, and whether one is what the Hub lists."""

    def __init__(self, repo: Repo, tip: ObjectId | None) -> None:
        self._repo = repo
        self._manifest: Manifest | None = None
        if tip is not None and repo.objects.contains(tip):
            self._manifest = repo.manifest(repo.commit(tip).manifest)

    def find(self, file: HubFile) -> FileEntry | None:
        """The stored file of that path and content."""
        manifest = self._manifest
        if manifest is None:
            return None
        entry = next((one for one in manifest.files if one.path == file.path), None)
        if entry is None or entry.size != file.size or not entry.sha256:
            return None
        if not all(manifest.tensors[key] for key in entry.tensors):
            return None
        if file.sha256 is not None:
            return entry if entry.sha256 == file.sha256 else None
        same = StoredFile(self._repo, manifest, entry).git_blob_id() == file.blob_id
        return entry if same else None


class _Fetch:
    """One pull under way."""

    def __init__(self, repo: Repo, hub: Hub, plan: PullPlan, tip: ObjectId | None, traffic: Traffic) -> None:
        self._repo = repo
        self._hub = hub
        self._plan = plan
        self._model = plan.model
        self._tip = tip
        self._known = _Known(repo, tip)
        self._lacking = set(plan.lacking)
        self._fetched = fetched_blocks(repo, plan.model)
        self._traffic = traffic
        self._headers: dict[str, Header] = {}
        self.resumed_bytes = 0

    def headers(self) -> None:
        """Every safetensors header, checked, before any weights."""
        for file in self._plan.files:
            if file.path.endswith(SUFFIX):
                stored = None if file in self._lacking else self._known.find(file)
                known = b"" if stored is None else header_bytes(self._repo, stored)
                self._headers[file.path] = fetch_header(self._hub, self._model, file, self._traffic, known)

    def base(self, branch: str) -> FoundBase | None:
        """The nearest known checkpoint, by a few ranges of the remote weights (where there are new ones)."""
        if self._tip is not None and not any(file.path in self._headers for file in self._lacking):
            parents = self._repo.commit(self._tip).parents
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
        if self._tip is not None and file not in self._lacking:
            names = () if header is None else [tensor.name for tensor in header.tensors]
            if writer.adopt(self._tip, file.path, names) is not None:
                return
        if header is not None:
            self._safetensors(writer, file, header)
        elif file.sha256 is None and file.size <= _SMALL_BYTES:
            self._small(writer, file)
        else:
            with HubStream(self._hub, self._model, file, taken=self._traffic.add) as stream:
                writer.add_opaque(file.path, stream, file.size, file.sha256)

    def _safetensors(self, writer: CheckpointWriter, file: HubFile, header: Header) -> None:
        with ResumingStream(
            self._repo,
            self._hub,
            self._model,
            file,
            header,
            self._traffic,
            self._fetched.get(file.path),
        ) as stream:
            self.resumed_bytes += stream.resumed_bytes
            try:
                writer.add_safetensors(file.path, stream, file.size, file.sha256)
            except (DamagedError, IncompatibleError):
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
