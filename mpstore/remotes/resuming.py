"""A file of the Hub as one stream: what an earlier pull left in the store, then the network.

Relies on download, journal and repository. Promises: the bytes are the file's, in order; only what the store
lacks is requested; memory is a block.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Final, Protocol

from mpstore import blocks
from mpstore.ids import ObjectId
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub
from mpstore.remotes.journal import Journal
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.parallel import in_parallel
from mpstore.repository import Repo
from mpstore.safetensors_file import Header, parse_header, read_header


class _Part(Protocol):
    def readinto(self, view: memoryview, /) -> int: ...


_PARALLEL: Final = 8
_NONE: Final[Mapping[str, bytes]] = {}
_NOTHING: Final[Mapping[int, ObjectId]] = {}


def fetch_header(hub: Hub, model: HubModel, file: HubFile, traffic: Traffic, known: bytes = b"") -> Header:
    """The checked header of a safetensors file, by range requests (or from `known` bytes of it)."""
    where = f"{model.address}: {file.path}"
    if known:
        return parse_header(known, where, file.size)
    first = min(file.size, 8)
    with HubStream(hub, model, file, 0, first, traffic.add) as stream:
        prefix = stream.read(8) if first else b""
    length = int.from_bytes(prefix, "little")
    stop = min(file.size, 8 + min(length, 100_000_000))
    with HubStream(hub, model, file, len(prefix), max(stop, len(prefix)), traffic.add) as stream:
        pending = [prefix]
        return read_header(lambda size: pending.pop() if pending else stream.read(size), where, file.size)


def fetch_headers(
    hub: Hub, model: HubModel, files: Sequence[HubFile], traffic: Traffic, known: Mapping[str, bytes] = _NONE
) -> dict[str, Header]:
    """The headers of several files, some at a time; `known`: those that are here, by path."""

    def fetch(file: HubFile) -> Header:
        return fetch_header(hub, model, file, traffic, known.get(file.path, b""))

    return dict(zip([file.path for file in files], in_parallel(hub, fetch, files, _PARALLEL), strict=True))


class ResumingStream:
    """`readinto` and `read` over a whole file; of a safetensors file the header is known. Context manager.

    `fetched`: ids of blocks that an earlier merge fetched, by number in the file. Whoever reads calls
    `stored` with the id of each block once it is stored, in order: these are what the next try finds.
    """

    def __init__(
        self,
        repo: Repo,
        hub: Hub,
        model: HubModel,
        file: HubFile,
        header: Header | None,
        traffic: Traffic,
        fetched: Mapping[int, ObjectId] = _NOTHING,
    ) -> None:
        self._objects = repo.objects
        self._traffic = traffic
        self._open = partial(HubStream, hub, model, file, taken=traffic.add)
        head = b"" if header is None else header.raw
        self._lengths = _block_lengths(file, header, repo.config.block_elements)
        self._journal = Journal(repo.root, model.address.repo_id, model.commit, file.path)
        known = {**self._journaled(head), **fetched}
        self._known = {index: block for index, block in known.items() if self._objects.contains(block)}
        self.resumed_bytes = sum(self._lengths[index] for index in self._known)
        self._journal.begin(head)
        self.stored = self._journal.append
        self._parts = self._all(head)
        self._part: _Part | None = None

    def __enter__(self) -> ResumingStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def finished(self) -> None:
        """The file is complete and right; until a commit names it, the journal knows its blocks."""
        self._journal.save()

    def wrong(self) -> None:
        """The bytes were not the file's: the next try starts at its beginning, with nothing of it."""
        self._journal.distrust()

    def broken(self) -> None:
        """The download ended early: the next try goes on here."""
        self._journal.save()

    def _journaled(self, header: bytes) -> dict[int, ObjectId]:
        if self._journal.header() != header:
            return {}
        return dict(enumerate(self._journal.ids()[: len(self._lengths)]))

    def _all(self, header: bytes) -> Generator[_Part, None, None]:
        """The file's parts in order: blocks that the store has, and one request for each run between them."""
        yield io.BytesIO(header)
        position = len(header)
        for here, run in groupby(range(len(self._lengths)), key=self._known.__contains__):
            indices = list(run)
            stop = position + sum(self._lengths[index] for index in indices)
            if here:
                for index in indices:
                    self._traffic.spared(self._lengths[index])
                    yield io.BytesIO(self._objects.read(self._known[index]))
            else:
                with self._open(position, stop) as stream:
                    yield stream
            position = stop

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, view: memoryview) -> int:
        """At least one byte, until the file ends."""
        while True:
            if self._part is None:
                self._part = next(self._parts, None)
            if self._part is None:
                return 0
            if got := self._part.readinto(view):
                return got
            self._part = None


def _block_lengths(file: HubFile, header: Header | None, block_elements: int) -> list[int]:
    """Raw lengths of the blocks that the file (or its tensors) is cut into, in file order; none is empty."""
    if header is None:
        return list(blocks.byte_lengths(file.size, 8, blocks.OPAQUE_BLOCK_BYTES))
    return [
        length
        for tensor in header.tensors
        for length in blocks.byte_lengths(tensor.data_bytes, tensor.dtype.bits, block_elements)
        if length
    ]
