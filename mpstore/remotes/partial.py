"""Experts that were never downloaded: headers first, then only the tensors that a plan selected.

Relies on hub, resuming, pull's filters and the ingest of single tensors. Promises: until a plan asks, only
headers (and an adapter's configuration) cross the network; what was fetched is a *partial* commit on the
branch hub/ORG/NAME, which a pull of the same commit completes and verifies as a whole (a part of a file has
no SHA-256 of its own).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import numpy as np

from mpstore import blocks
from mpstore.adapters import MAX_CONFIG_BYTES
from mpstore.checkpoint_dir import SUFFIX, check_weights, kind_of, tensor_keys
from mpstore.errors import IncompatibleError, NotFoundError, RemoteError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, to_hex
from mpstore.ingest.base_tensors import BaseTensors
from mpstore.ingest.tensor_work import TensorWork
from mpstore.merge.execute.output import put_opaque
from mpstore.merge.gather import Source
from mpstore.merge.gather_adapter import CONFIG_FILE, adapter_targets
from mpstore.merge.stored_header import lacking_tensors, stored_header
from mpstore.pipeline import OrderedPipeline, thread_count
from mpstore.records.model import FileEntry, Manifest, Parent, Plan, PlanExpert, TensorRecord
from mpstore.remotes.address import Address, is_address, parse
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub, HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin, origin_of
from mpstore.remotes.resuming import fetch_header
from mpstore.remotes.small_file import fetch_small
from mpstore.repository import Repo
from mpstore.safetensors_file import Header, TensorInfo
from mpstore.statistics import Row
from mpstore.store import Hint, ObjectWriter, Prepared

_BATCH_BYTES: Final = 1 << 20


def branch_of(address: Address) -> str:
    """The branch that keeps what was fetched of a model without pulling it."""
    return f"hub/{address.repo_id}"


class HubModels:
    """A merge's models that are named hf://…; `resolve` fits `merge.models.ModelResolver`."""

    def __init__(self, repo: Repo, hub: Hub, author: str = "", progress: Progress = silent) -> None:
        self._repo = repo
        self._hub = hub
        self._author = author
        self._progress = progress

    def resolve(self, name: str) -> Source | None:
        """The model's commit: a complete one where a branch has it, else its headers alone."""
        if not is_address(name):
            return None
        address = parse(name)
        model = self._hub.resolve(address)
        commit = self._known(model)
        if commit is None:
            commit = self._headers(model)
        return Source(name, commit, network_bytes(self._repo, commit))

    def _known(self, model: HubModel) -> ObjectId | None:
        """A commit of this very origin: complete ones first, then what earlier merges fetched."""
        partial_commit = None
        for name in self._repo.refs.names("heads/"):
            tip = self._repo.tip(name.removeprefix("heads/"))
            origin = None if tip is None else origin_of(self._repo.commit(tip))
            if origin is None or (origin.repo_id, origin.commit) != (model.address.repo_id, model.commit):
                continue
            if not origin.partial and not origin.include and not origin.exclude:
                return tip
            if origin.partial:
                partial_commit = tip
        return partial_commit

    def _headers(self, model: HubModel) -> ObjectId:
        """Fetch the headers, and commit a manifest without any tensor's content."""
        weights = [file for file in model.files if file.path.endswith(SUFFIX)]
        check_weights(str(model.address), [file.path for file in model.files])
        traffic = Traffic()
        headers = {file.path: fetch_header(self._hub, model, file, traffic) for file in weights}
        kind = kind_of({file.path for file in model.files}, headers)
        config = self._adapter_config(model, traffic) if kind == "lora" else None
        branch = branch_of(model.address)
        tip = self._repo.tip(branch)
        with self._repo.objects.writer(f"headers of {model.address}") as writer:
            manifest = self._empty_manifest(writer, weights, headers, config)
            return self._repo.advance(
                writer,
                branch,
                tip,
                manifest=self._repo.put(writer, manifest),
                kind=kind,
                author=self._author,
                message=f"headers of {model.address}",
                how={"verb": "pull", "origin": _origin(model).as_json()},
            )

    def _adapter_config(self, model: HubModel, traffic: Traffic) -> bytes:
        """What a LoRA adapter's pairs mean; a few hundred bytes that planning needs."""
        file = model.file(CONFIG_FILE)
        if file is None or file.size > MAX_CONFIG_BYTES:
            size = "no" if file is None else f"an impossible ({file.size} bytes)"
            raise IncompatibleError(f"{model.address} has {size} {CONFIG_FILE}")
        return fetch_small(self._hub, model, file, traffic)

    def _empty_manifest(
        self,
        writer: ObjectWriter,
        weights: list[HubFile],
        headers: Mapping[str, Header],
        config: bytes | None,
    ) -> Manifest:
        keys = tensor_keys((path, [t.name for t in header.tensors]) for path, header in headers.items())
        entries, size = [], blocks.OPAQUE_BLOCK_BYTES
        for file in weights:
            raw = headers[file.path].raw
            content = b"".join(writer.put(raw[at : at + size], Hint()) for at in range(0, len(raw), size))
            sha256 = file.sha256 or b""
            entries.append(FileEntry(file.path, "safetensors", file.size, sha256, content, keys[file.path]))
        if config is not None:
            entries.append(put_opaque(writer, CONFIG_FILE, config))
        entries.sort(key=lambda entry: entry.path)
        return Manifest(tuple(entries), {key: b"" for own in sorted(keys.values()) for key in sorted(own)})

    # After planning

    def supply(self, plan: Plan) -> Plan:
        """Fetch what the plan selected of tensors that are not here; the plan that reads it here."""
        experts = tuple(self._supplied(plan, expert) for expert in plan.experts)
        return plan if experts == plan.experts else replace(plan, experts=experts)

    def _supplied(self, plan: Plan, expert: PlanExpert) -> PlanExpert:
        manifest = self._repo.manifest(expert.manifest)
        lacking = {key for key in self._sources(plan, expert, manifest) if manifest.tensors.get(key) == b""}
        if not lacking:
            return expert
        commit = self._repo.commit(expert.commit)
        origin = origin_of(commit)
        if origin is None:
            raise NotFoundError(
                f"{expert.model}: {len(lacking)} tensors were never fetched, nor is it said whence"
            )
        model = self._hub.resolve(Address(origin.repo_id, origin.commit))
        branch = branch_of(origin.address)
        task = self._progress.task(f"fetching from {origin.address}", expert.cost_bytes, "bytes")
        try:
            with self._repo.objects.writer(f"tensors of {origin.address}") as writer:
                writer.pin_commit(expert.commit)
                fetch = _TensorFetch(self._repo, self._hub, writer, model, plan.base_manifest, Traffic(task))
                records = fetch.tensors(manifest, lacking)
                filled = replace(manifest, tensors={**manifest.tensors, **records})
                manifest_id = self._repo.put(writer, filled)
                commit_id = self._repo.advance(
                    writer,
                    branch,
                    self._repo.tip(branch),
                    manifest=manifest_id,
                    parents=(Parent("base", plan.base_commit),),
                    kind=commit.kind,
                    author=self._author,
                    message=f"{len(records)} tensors of {origin.address} for a merge",
                    how={"verb": "pull", "origin": origin.as_json(), "base": to_hex(plan.base_commit)},
                )
        finally:
            task.finish()
        return replace(expert, commit=commit_id, manifest=manifest_id)

    def _sources(self, plan: Plan, expert: PlanExpert, manifest: Manifest) -> Iterator[str]:
        """The expert's own tensors that the plan selected: an adapter's pairs have names of their own."""
        if expert.kind != "lora":
            yield from expert.selection
            return
        base = self._repo.tensors(self._repo.manifest(plan.base_manifest))
        targets, _ = adapter_targets(self._repo, manifest, base, expert.model)
        for key in expert.selection:
            yield from targets[key].sources


def network_bytes(repo: Repo, commit: ObjectId) -> dict[str, int]:
    """Of every tensor of a commit that is not in the store, the bytes that fetching it transfers."""
    manifest = repo.manifest(repo.commit(commit).manifest)
    return {key: tensor.data_bytes for key, tensor in lacking_tensors(repo, manifest).items()}


def fetched_blocks(repo: Repo, model: HubModel) -> dict[str, dict[int, ObjectId]]:
    """File path -> number of a block in the file -> its id, of what merges have fetched of this commit."""
    tip = repo.tip(branch_of(model.address))
    origin = None if tip is None else origin_of(repo.commit(tip))
    if tip is None or origin is None or origin.commit != model.commit:
        return {}
    manifest = repo.manifest(repo.commit(tip).manifest)
    found: dict[str, dict[int, ObjectId]] = {}
    for entry in manifest.files:
        if entry.kind != "safetensors":
            continue
        own = found.setdefault(entry.path, {})
        number = 0
        for key, tensor in zip(entry.tensors, stored_header(repo, entry).tensors, strict=True):
            if manifest.tensors[key]:
                ids = repo.tensor(manifest.tensors[key]).block_ids
                own.update((number + at // 32, ids[at : at + 32]) for at in range(0, len(ids), 32))
            number += blocks.count(tensor.elements, repo.config.block_elements)
    return found


def _origin(model: HubModel) -> Origin:
    return Origin(model.address.repo_id, model.address.revision, model.commit, partial=True)


@dataclass(frozen=True)
class _Piece:
    """A tensor of a file and the key it has in the manifest."""

    key: str
    tensor: TensorInfo


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
        with ThreadPoolExecutor(thread_count(None, self._repo.config.threads)) as pool:
            for entry in manifest.files:
                wanted = [key for key in entry.tensors if key in keys]
                if not wanted:
                    continue
                file = self._model.file(entry.path)
                if file is None or file.size != entry.size:
                    raise RemoteError(
                        f"{self._model.address}: {entry.path} is not what it was", hint="pull it again"
                    )
                header = stored_header(self._repo, entry)
                pieces = zip(entry.tensors, header.tensors, strict=True)
                chosen = [_Piece(key, tensor) for key, tensor in pieces if key in keys]
                for run in _runs(chosen):
                    start = len(header.raw) + run[0].tensor.start
                    stop = len(header.raw) + run[-1].tensor.stop
                    stream = HubStream(self._hub, self._model, file, start, stop, self._traffic.add)
                    with stream, OrderedPipeline(pool, 8) as pipeline:
                        for piece in run:
                            self._tensor(piece, stream, pipeline, found)
        return found

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


def _runs(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Neighbours in the file together: one request brings them."""
    position, number, numbered = -1, 0, []
    for piece in pieces:
        number += piece.tensor.start != position
        position = piece.tensor.stop
        numbered.append((number, piece))
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield [piece for _, piece in group]
