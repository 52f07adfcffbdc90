"""The core that `add` and `pull` share: files come in as streams, a commit comes out.

Relies on repository, statistics and the pipeline. Promises: one pass over each stream; memory is bounded by
`depth` blocks a file under way; nothing names what was stored before all of it is durable.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Final

from mpstore import blocks
from mpstore.checkpoint_dir import check_path, tensor_keys
from mpstore.codecs import Format
from mpstore.errors import DamagedError, RemoteError
from mpstore.events import Progress, Task, silent
from mpstore.hash_points import HashPoints
from mpstore.ids import ObjectId, record_id
from mpstore.ingest.base_tensors import BaseAhead
from mpstore.ingest.crew import Crew
from mpstore.ingest.pairing import Pairing
from mpstore.ingest.reading import BufferPool, Bytes, HashedReader, Stream
from mpstore.ingest.tensor_work import TensorWork
from mpstore.pipeline import OrderedPipeline, thread_count
from mpstore.records.encoding import encode
from mpstore.records.model import Commit, CommitKind, FileEntry, Json, Manifest, Parent, TensorRecord
from mpstore.repository import Repo
from mpstore.safetensors_file import TensorInfo, read_header
from mpstore.statistics import Row
from mpstore.store import Hint, Prepared, WriteSummary

_BATCH_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Committed:
    """What `commit` did. `created` False: the branch had this very checkpoint already. `blocks` are the
    tensors', `new_blocks` those of them that were not in the store; `summary` counts headers and other files'
    blocks too."""

    commit: ObjectId
    manifest: ObjectId
    created: bool
    tensors: int
    blocks: int
    new_blocks: int
    raw_bytes: int
    summary: WriteSummary


@dataclass(frozen=True)
class _Stored:
    """A file that is in the store: its entry, without final keys, and its tensors' records."""

    entry: FileEntry
    records: tuple[ObjectId, ...]
    blocks: int


@dataclass(frozen=True)
class _Incoming:
    """A file that comes in, and what was promised of it; see `add_safetensors`."""

    path: str
    reader: HashedReader
    size: int | None
    sha256: bytes | None
    task: Task | None
    stored: Callable[[ObjectId], None] | None

    def taken(self, count: int) -> None:
        """Tell of so many bytes."""
        if self.task is not None:
            self.task.advance(count)

    def is_stored(self, block: ObjectId) -> None:
        """Tell of a block."""
        if self.stored is not None:
            self.stored(block)


@dataclass(frozen=True)
class _Flow:
    """One safetensors file on its way in."""

    file: _Incoming
    pipeline: OrderedPipeline
    ahead: BaseAhead


@contextlib.contextmanager
def _what_came_is_kept(pipeline: OrderedPipeline) -> Iterator[None]:
    """Where a transfer ends early, what it has brought is stored all the same: the next one goes on there."""
    try:
        yield
    except RemoteError:
        pipeline.drain()
        raise


class CheckpointWriter:
    """Stores the files of one checkpoint. Use as a context manager.

    `base`: the commit that it was made from; its blocks help to encode, and the statistics of the pair are
    computed on the way. `kind` "delta": the tensors are deltas themselves. `layout`: (path, tensor names) of
    every safetensors file to come, where the caller knows them all; without it, a tensor whose name a
    second file of the same directory repeats has no statistics. `crew`: who works, if not one of its own.
    """

    def __init__(
        self,
        repo: Repo,
        *,
        label: str = "add",
        base: ObjectId | None = None,
        kind: CommitKind = "full",
        layout: Iterable[tuple[str, Sequence[str]]] | None = None,
        threads: int | None = None,
        crew: Crew | None = None,
        progress: Progress = silent,
    ) -> None:
        self._repo = repo
        self._kind = kind
        self._base_commit = base
        self._shared_crew = crew is not None  # which then is not ours to dismiss
        self._crew = crew or Crew(thread_count(threads, repo.config.threads))
        self._writer = repo.objects.writer(label)
        try:
            if base is not None:
                self._writer.pin_commit(base)
            base_manifest = None if base is None else repo.commit(base).manifest
            self._pairing = Pairing(repo, base_manifest, kind, self._crew.shared)
        except BaseException:
            self._writer.close()
            raise
        self._keys = None if layout is None else tensor_keys(layout)
        self._points = HashPoints(repo.root)
        self._files: dict[str, _Stored] = {}
        self._new_blocks = 0
        self._lock = threading.Lock()
        self._progress = progress

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._shared_crew:
            self._crew.__exit__()
        self._writer.__exit__(kind, error, trace)

    # Files

    def add_safetensors(
        self,
        path: str,
        stream: Stream,
        size: int | None = None,
        sha256: bytes | None = None,
        task: Task | None = None,
        stored: Callable[[ObjectId], None] | None = None,
    ) -> FileEntry:
        """Store a safetensors file from its stream. Several threads may, one file each.

        DamagedError: its header lies, it is longer or shorter than it says, or has another size or SHA-256
        than was promised. `task` hears of every byte taken, `stored` of every block of a tensor in order,
        once it will be found again.
        """
        with HashedReader(stream, check_path(path), self._crew.hashing, size) as reader:
            return self._keep(self._safetensors(_Incoming(path, reader, size, sha256, task, stored)))

    def _safetensors(self, file: _Incoming) -> _Stored:
        path, reader = file.path, file.reader
        header = read_header(reader.read, path, file.size)
        content = self._put_bytes(header.raw)
        file.taken(len(header.raw))
        names = [tensor.name for tensor in header.tensors]
        keys = self._keys[path] if self._keys is not None else tensor_keys([(path, names)])[path]
        works = [
            self._pairing.work(self._writer, key, tensor, path)
            for key, tensor in zip(keys, header.tensors, strict=True)
        ]
        ahead = BaseAhead(
            (tensor.start, work.base) for tensor, work in zip(header.tensors, works, strict=True)
        )
        records: list[TensorRecord] = []
        with OrderedPipeline(self._crew.pool, self._crew.depth) as pipeline, _what_came_is_kept(pipeline):
            for key, tensor, work in zip(keys, header.tensors, works, strict=True):
                self._add_tensor(key, tensor, work, _Flow(file, pipeline, ahead), records)
        sha256 = reader.finish(file.sha256)
        self._points.keep(sha256, reader.points)
        entry = FileEntry(path, "safetensors", header.file_bytes, sha256, content, tuple(names))
        step = self._repo.config.block_elements
        count = sum(blocks.count(tensor.elements, step) for tensor in header.tensors)
        return _Stored(entry, tuple(self._repo.put_many(self._writer, records)), count)

    def add_opaque(
        self,
        path: str,
        stream: Stream,
        size: int | None = None,
        sha256: bytes | None = None,
        task: Task | None = None,
        stored: Callable[[ObjectId], None] | None = None,
    ) -> FileEntry:
        """Store any other file from its stream. Errors as of `add_safetensors`."""
        with HashedReader(stream, check_path(path), self._crew.hashing, size) as reader:
            return self._keep(self._opaque(_Incoming(path, reader, size, sha256, task, stored)))

    def _opaque(self, file: _Incoming) -> _Stored:
        path, reader = file.path, file.reader
        ids: list[ObjectId] = []

        def consume(prepared: Prepared) -> None:
            ids.append(self._writer.append(prepared))
            file.is_stored(ids[-1])

        with OrderedPipeline(self._crew.pool, self._crew.depth) as pipeline, _what_came_is_kept(pipeline):
            while data := reader.read_block(blocks.OPAQUE_BLOCK_BYTES):
                work = partial(self._writer.prepare, data, Hint(Format.BYTES))
                pipeline.submit(work, consume)
                file.taken(len(data))
        if file.size is not None and reader.taken_bytes != file.size:
            raise DamagedError(f"{path}: has {reader.taken_bytes} bytes, expected {file.size}")
        entry = FileEntry(path, "opaque", reader.taken_bytes, reader.finish(file.sha256), b"".join(ids))
        return _Stored(entry, (), 0)

    def adopt(self, commit: ObjectId, path: str, names: Sequence[str]) -> FileEntry | None:
        """Take a file over from a commit that has it: nothing is read. `names`: its tensors', in file order.

        None: the commit is not there any more, or some of the file is not: then it is to be read, and is
        stored anew.
        """
        self._writer.pin_commit(commit)
        if not self._repo.objects.contains(commit):
            return None
        try:
            found = self._found(commit, path, names)
        except DamagedError:  # of its records, too
            return None
        return None if found is None else self._keep(found)

    def _found(self, commit: ObjectId, path: str, names: Sequence[str]) -> _Stored | None:
        """A file of a commit, where the store has all of it."""
        manifest = self._repo.manifest(self._repo.commit(commit).manifest)
        entry = next((file for file in manifest.files if file.path == path), None)
        records = () if entry is None else tuple(manifest.tensors[key] for key in entry.tensors)
        if entry is None or not entry.sha256 or not all(records) or len(records) != len(names):
            return None
        found = self._repo.load_many(TensorRecord, records)
        ids = [entry.content_ids, *(found[record].block_ids for record in records)]
        if not self._repo.objects.holds(b"".join(ids)):
            return None
        count = sum(found[record].blocks for record in records)
        return _Stored(replace(entry, tensors=tuple(names)), records, count)

    def _keep(self, stored: _Stored) -> FileEntry:
        with self._lock:
            self._files[stored.entry.path] = stored
        return stored.entry

    def _put_bytes(self, data: bytes) -> bytes:
        size = blocks.OPAQUE_BLOCK_BYTES
        parts = (data[start : start + size] for start in range(0, len(data), size))
        return b"".join(self._writer.put(part, Hint(Format.BYTES)) for part in parts)

    # Tensors

    def _add_tensor(
        self, key: str, tensor: TensorInfo, work: TensorWork, flow: _Flow, records: list[TensorRecord]
    ) -> None:
        block_elements = self._repo.config.block_elements
        block_bytes = block_elements * tensor.dtype.bits // 8
        batch_blocks = max(1, _BATCH_BYTES // block_bytes)
        pool = BufferPool(min(tensor.data_bytes, batch_blocks * block_bytes))
        ids: list[ObjectId] = []

        def consume(buffer: Bytes, hashed: Future[None], done: list[tuple[Prepared, Row | None]]) -> None:
            if work.measure:
                self._pairing.add(key, len(ids), [row for _, row in done if row is not None])
            new = self._writer.append_many([prepared for prepared, _ in done])
            with self._lock:  # another file's thread may count, too
                self._new_blocks += new
            for prepared, _ in done:
                ids.append(prepared.id)
                flow.file.is_stored(prepared.id)
            hashed.result()
            pool.give_back(buffer)

        for batch, start in enumerate(range(0, tensor.data_bytes, batch_blocks * block_bytes)):
            flow.ahead.advance(tensor.start + start)
            buffer = pool.take(flow.file.reader.taken_bytes)
            data = buffer[: min(buffer.size, tensor.data_bytes - start)]
            hashed = flow.file.reader.fill(data)
            raws = [data[at : at + block_bytes] for at in range(0, data.size, block_bytes)]
            flow.pipeline.submit(
                partial(work.prepare, raws, batch * batch_blocks), partial(consume, buffer, hashed)
            )
            flow.file.taken(data.size)

        def conclude() -> None:
            records.append(TensorRecord(tensor.dtype.name, tensor.shape, block_elements, b"".join(ids)))

        flow.pipeline.then(conclude)

    # The end

    def commit(
        self,
        branch: str,
        tip: ObjectId | None,
        *,
        author: str = "",
        message: str = "",
        how: Mapping[str, Json] | None = None,
        base_named: bool = False,
    ) -> Committed:
        """Commit what was added on a branch that is at `tip` (None: a new one), with the base as a parent.

        A branch whose tip has this very manifest and kind gets no commit, unless the base was named by who
        calls (`base_named`) and the tip has another, or none. ConflictError: the branch moved.
        """
        manifest, owners = self._manifest()
        manifest_id = record_id(Manifest.KIND, encode(manifest))
        statistics = self._pairing.put_statistics(
            self._writer, self._crew.pool, manifest, manifest_id, owners
        )
        same = tip is not None and self._is(self._repo.commit(tip), manifest_id, base_named)
        if same and tip is not None:
            commit_id = tip
        else:
            self._repo.put(self._writer, manifest)
            parents = () if self._base_commit is None else (Parent("base", self._base_commit),)
            commit_id = self._repo.advance(
                self._writer,
                branch,
                tip,
                manifest=manifest_id,
                parents=parents,
                kind=self._kind,
                author=author,
                message=message,
                how=how,
            )
        summary = self._writer.finish()
        if statistics is not None and self._pairing.base_manifest is not None:
            self._repo.name_statistics(self._pairing.base_manifest, manifest_id, statistics)
        return Committed(
            commit_id,
            manifest_id,
            not same,
            len(manifest.tensors),
            sum(file.blocks for file in self._files.values()),
            self._new_blocks,
            sum(file.size for file in manifest.files),
            summary,
        )

    def _is(self, commit: Commit, manifest_id: ObjectId, base_named: bool) -> bool:
        if commit.manifest != manifest_id or commit.kind != self._kind:
            return False
        if not base_named or self._base_commit is None:
            return True
        base = self._repo.commit(self._base_commit).manifest
        bases = [parent.commit for parent in commit.parents if parent.role == "base"]
        return base == manifest_id or base in [self._repo.commit(one).manifest for one in bases]

    def _manifest(self) -> tuple[Manifest, dict[str, str]]:
        """The manifest, and the path of each tensor's file."""
        files = [self._files[path] for path in sorted(self._files)]
        keys = tensor_keys((file.entry.path, file.entry.tensors) for file in files)
        tensors: dict[str, ObjectId] = {}
        for file in files:
            tensors.update(zip(keys[file.entry.path], file.records, strict=True))
        entries = tuple(replace(file.entry, tensors=keys[file.entry.path]) for file in files)
        owners = {key: path for path, own in keys.items() for key in own}
        return Manifest(entries, dict(sorted(tensors.items()))), owners
