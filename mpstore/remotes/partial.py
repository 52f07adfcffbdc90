"""Experts that were never downloaded: of their weights, only the tensors that a plan selected.

Relies on hub, headers and the ingest of single tensors. Promises: only these tensors' bytes are requested;
what was fetched is a *partial* commit on the branch hub/ORG/NAME, which a pull of the same commit completes
and verifies as a whole (a part of a file has no SHA-256 of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import numpy as np

from mpstore import blocks
from mpstore.errors import RemoteError
from mpstore.events import Progress
from mpstore.ids import ObjectId, to_hex
from mpstore.ingest.base_tensors import BaseTensors
from mpstore.ingest.tensor_work import TensorWork
from mpstore.merge.gather_adapter import adapter_targets
from mpstore.merge.stored_header import stored_header
from mpstore.pipeline import OrderedPipeline, thread_count
from mpstore.records.model import FileEntry, Manifest, Parent, Plan, PlanExpert, TensorRecord
from mpstore.remotes import known
from mpstore.remotes.download import HubStream
from mpstore.remotes.headers import branch_of
from mpstore.remotes.hub import Hub
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin, origin_of
from mpstore.remotes.parallel import in_parallel
from mpstore.repository import Repo
from mpstore.safetensors_file import TensorInfo
from mpstore.statistics import Row
from mpstore.store import ObjectWriter, Prepared

_BATCH_BYTES: Final = 1 << 20
_PARALLEL_RUNS: Final = 4


@dataclass(frozen=True)
class Supplied:
    """An expert of the Hub: `model` asks for its files, once something is lacking."""

    repo: Repo
    hub: Hub
    model: Callable[[], HubModel]
    origin: Origin
    author: str


def supplied(
    words: Supplied, plan: Plan, expert: PlanExpert, traffic: Traffic, progress: Progress
) -> PlanExpert:
    """Fetch what the plan selected of an expert's tensors that are not here; the expert with them."""
    repo, origin = words.repo, words.origin
    manifest = repo.manifest(expert.manifest)
    lacking = {key for key in _sources(repo, plan, expert, manifest) if manifest.tensors.get(key) == b""}
    if not lacking:
        return expert
    model = words.model()
    kind, branch = repo.commit(expert.commit).kind, branch_of(origin.address)
    task = progress.task(f"fetching from {origin.address}", expert.cost_bytes, "bytes")
    counted = Traffic(task)
    try:
        with repo.objects.writer(f"tensors of {origin.address}") as writer:
            writer.pin_commit(expert.commit)
            fetch = _TensorFetch(repo, words.hub, writer, model, plan.base_manifest, counted)
            records = fetch.tensors(manifest, lacking)
            manifest_id = repo.put(writer, replace(manifest, tensors={**manifest.tensors, **records}))
            commit_id = repo.advance(
                writer,
                branch,
                repo.tip(branch),
                manifest=manifest_id,
                parents=(Parent("base", plan.base_commit),),
                kind=kind,
                author=words.author,
                message=f"{len(records)} tensors of {origin.address} for a merge",
                how={"verb": "pull", "origin": origin.as_json(), "base": to_hex(plan.base_commit)},
            )
    finally:
        task.finish()
        traffic.add(counted.received_bytes)
    return replace(expert, commit=commit_id, manifest=manifest_id)


def _sources(repo: Repo, plan: Plan, expert: PlanExpert, manifest: Manifest) -> Iterator[str]:
    """The expert's own tensors that the plan selected: an adapter's pairs have names of their own."""
    if expert.kind != "lora":
        yield from expert.selection
        return
    base = repo.tensors(repo.manifest(plan.base_manifest))
    targets, _ = adapter_targets(repo, manifest, base, expert.model)
    for key in expert.selection:
        yield from targets[key].sources


@dataclass(frozen=True)
class FetchedFile:
    """What merges fetched of a file: its header, and its blocks by their number in the file."""

    header: bytes
    blocks: Mapping[int, ObjectId]


def fetched_files(repo: Repo, model: HubModel) -> dict[str, FetchedFile]:
    """What merges have fetched of this very commit, by the files' paths; nobody has checked their SHA-256."""
    for _, commit in known.pulled(repo, model.address.repo_id):
        origin = origin_of(commit)
        if origin is not None and origin.partial and origin.commit == model.commit:
            manifest = repo.manifest(commit.manifest)
            return {
                entry.path: _fetched_file(repo, manifest, entry)
                for entry in manifest.files
                if entry.kind == "safetensors"
            }
    return {}


def _fetched_file(repo: Repo, manifest: Manifest, entry: FileEntry) -> FetchedFile:
    header = stored_header(repo, entry)
    found: dict[int, ObjectId] = {}
    number = 0
    for key, tensor in zip(entry.tensors, header.tensors, strict=True):
        if manifest.tensors[key]:
            ids = repo.tensor(manifest.tensors[key]).block_ids
            found.update((number + at // 32, ids[at : at + 32]) for at in range(0, len(ids), 32))
        number += blocks.count(tensor.elements, repo.config.block_elements)
    return FetchedFile(header.raw, found)


@dataclass(frozen=True)
class _Piece:
    """A tensor of a file and the key it has in the manifest."""

    key: str
    tensor: TensorInfo


@dataclass(frozen=True)
class _Run:
    """Tensors of a file that lie one behind the other."""

    file: HubFile
    header_bytes: int
    pieces: tuple[_Piece, ...]


class _TensorFetch:
    """Ranges of one model's files into the store, encoded against the merge's base."""

    def __init__(
        self,
        repo: Repo,
        hub: Hub,
        writer: ObjectWriter,
        model: HubModel,
        base: ObjectId,
        traffic: Traffic,
    ) -> None:
        self._repo = repo
        self._hub = hub
        self._writer = writer
        self._model = model
        self._base = BaseTensors(repo, base)
        self._traffic = traffic

    def tensors(self, manifest: Manifest, keys: set[str]) -> dict[str, ObjectId]:
        """Records of the tensors with these keys."""
        found: dict[str, ObjectId] = {}
        runs = [run for entry in manifest.files for run in self._runs(entry, keys)]
        with ThreadPoolExecutor(thread_count(None, self._repo.config.threads)) as pool:
            in_parallel(self._hub, lambda run: self._run(run, pool, found), runs, _PARALLEL_RUNS)
        return found

    def _runs(self, entry: FileEntry, keys: set[str]) -> Iterator[_Run]:
        """The chosen tensors of a file, neighbours together: one request brings them."""
        if keys.isdisjoint(entry.tensors):
            return
        file = self._model.file(entry.path)
        if file is None or file.size != entry.size:
            raise RemoteError(f"{self._model.address}: {entry.path} is not what it was", hint="pull it again")
        header = stored_header(self._repo, entry)
        pieces = zip(entry.tensors, header.tensors, strict=True)
        chosen = [_Piece(key, tensor) for key, tensor in pieces if key in keys]
        yield from (_Run(file, len(header.raw), tuple(run)) for run in _neighbours(chosen))

    def _run(self, run: _Run, pool: ThreadPoolExecutor, found: dict[str, ObjectId]) -> None:
        start = run.header_bytes + run.pieces[0].tensor.start
        stop = run.header_bytes + run.pieces[-1].tensor.stop
        stream = HubStream(self._hub, self._model, run.file, start, stop, self._traffic.add)
        with stream, OrderedPipeline(pool, 8) as pipeline:
            for piece in run.pieces:
                self._tensor(piece, stream, pipeline, found)

    def _tensor(
        self, piece: _Piece, stream: HubStream, pipeline: OrderedPipeline, found: dict[str, ObjectId]
    ) -> None:
        tensor, elements = piece.tensor, self._repo.config.block_elements
        base = self._base.find(piece.key, tensor.shape)
        work = TensorWork(self._writer, tensor.dtype, base, measure=False, difference=True)
        ids: list[ObjectId] = []

        def consume(done: list[tuple[Prepared, Row | None]]) -> None:
            ids.extend(self._writer.append(prepared) for prepared, _ in done)

        block_bytes = elements * tensor.dtype.bits // 8
        batch = max(1, _BATCH_BYTES // block_bytes)
        for start in range(0, tensor.data_bytes, batch * block_bytes):
            data = np.empty(min(batch * block_bytes, tensor.data_bytes - start), np.uint8)
            stream.fill(memoryview(data.data).cast("B"))
            raws = [data[at : at + block_bytes] for at in range(0, data.size, block_bytes)]
            pipeline.submit(partial(work.prepare, raws, start // block_bytes), consume)

        def conclude() -> None:
            record = TensorRecord(tensor.dtype.name, tensor.shape, elements, b"".join(ids))
            found[piece.key] = self._repo.put(self._writer, record)

        pipeline.then(conclude)


def _neighbours(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces without a gap between them together."""
    position, number, numbered = -1, 0, []
    for piece in pieces:
        number += piece.tensor.start != position
        position = piece.tensor.stop
        numbered.append((number, piece))
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield [piece for _, piece in group]
