"""One pull under way: headers, base, then all files, a few at a time, into a CheckpointWriter.

Relies on resuming, partial and the CheckpointWriter. Promises: headers are checked before weights are
requested; every file's hash is the Hub's before the writer has it; what was brought is known to the next try.
"""

from __future__ import annotations

import io
from typing import Any, Final

from mpstore.checkpoint_dir import SUFFIX, Checkpoint, SourceFile, kind_of, tensor_names
from mpstore.errors import DamagedError, IncompatibleError, NotFoundError
from mpstore.events import Progress
from mpstore.ids import short
from mpstore.ingest.base_search import FoundBase, find_base
from mpstore.ingest.checkpoint_writer import CheckpointWriter
from mpstore.merge.stored_header import header_bytes
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub
from mpstore.remotes.journal import Journal
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.parallel import in_parallel
from mpstore.remotes.partial import FetchedFile, fetched_files
from mpstore.remotes.pull_plan import PullPlan
from mpstore.remotes.resuming import ResumingStream, fetch_headers
from mpstore.remotes.small_file import fetch_small
from mpstore.repository import Repo
from mpstore.safetensors_file import Header

_PARALLEL_FILES: Final = 4
_SMALL_BYTES: Final = 64 << 20


class Fetch:
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

    def headers(self) -> None:
        """Every safetensors header, checked, before any weights."""
        weights = [file for file in self._plan.files if file.path.endswith(SUFFIX)]
        known = {file.path: header for file in weights if (header := self._stored_header(file))}
        self._headers = fetch_headers(self._hub, self._model, weights, self._traffic, known)

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
        return CheckpointWriter(
            self._repo,
            label=f"pull {self._model.address}",
            base=None if base is None else base.commit,
            kind=self._kind(),
            layout=tensor_names(self._headers),
            threads=threads,
            progress=progress,
        )

    def files(self, writer: CheckpointWriter) -> None:
        """All files, a few at a time; the first failure stops the others."""
        in_parallel(self._hub, lambda file: self._file(writer, file), self._plan.files, _PARALLEL_FILES)

    def forget(self) -> None:
        """A commit names all of it: nothing is to be resumed."""
        for file in self._plan.files:
            Journal(self._repo.root, self._model.address.repo_id, self._model.commit, file.path).forget()

    def _file(self, writer: CheckpointWriter, file: HubFile) -> None:
        header = self._headers.get(file.path)
        here = self._here.get(file)
        if here is not None:
            names = () if header is None else [tensor.name for tensor in header.tensors]
            if writer.adopt(here, file.path, names) is not None:
                return
        if header is None and file.sha256 is None and file.size <= _SMALL_BYTES:
            self._small(writer, file)
            return
        with self._stream(file, header) as stream:
            try:
                if header is None:
                    writer.add_opaque(file.path, stream, file.size, file.sha256, stored=stream.stored)
                else:
                    writer.add_safetensors(file.path, stream, file.size, file.sha256, stored=stream.stored)
            except DamagedError as error:
                stream.wrong()
                raise DamagedError(error.message, hint=_again(stream, error)) from error
            except IncompatibleError:
                stream.wrong()
                raise
            except BaseException:
                stream.broken()
                raise
            stream.finished()

    def _stream(self, file: HubFile, header: Header | None) -> ResumingStream:
        fetched = self._fetched.get(file.path)
        known = {} if fetched is None else fetched.blocks
        return ResumingStream(self._repo, self._hub, self._model, file, header, self._traffic, known)

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


def _again(stream: ResumingStream, error: DamagedError) -> str | None:
    """What helps where bytes were not the file's."""
    if not stream.resumed_bytes:
        return error.hint
    return "what an earlier pull or merge brought of it is wrong; pull again: all of it is fetched"
