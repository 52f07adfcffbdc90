"""A safetensors file of the Hub as one stream: what an earlier pull left in the store, then the network.

Relies on download, journal and repository. Promises: the bytes are the file's, in order; only what the store
lacks is requested; memory is a block.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Final

from mpstore import blocks
from mpstore.ids import ObjectId, block_id
from mpstore.remotes.ahead import Ahead
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub, HubFile, HubModel
from mpstore.remotes.journal import Journal
from mpstore.remotes.network import Traffic
from mpstore.repository import Repo
from mpstore.safetensors_file import Header, parse_header, read_header


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


_AHEAD_BLOCKS: Final = 32


class ResumingStream:
    """`readinto` and `read` over a whole safetensors file whose header is known. Context manager.

    `fetched`: ids of blocks that an earlier merge fetched, by number in the file.
    """

    def __init__(
        self,
        repo: Repo,
        hub: Hub,
        model: HubModel,
        file: HubFile,
        header: Header,
        traffic: Traffic,
        fetched: Mapping[int, ObjectId] | None = None,
    ) -> None:
        self._objects = repo.objects
        self._open = partial(HubStream, hub, model, file, taken=traffic.add)
        self._lengths = _block_lengths(header, repo.config.block_elements)
        self._journal = Journal(repo.root, model.address.repo_id, model.commit, file.path)
        known = {**self._journaled(header), **(fetched or {})}
        self._known = {index: block for index, block in known.items() if self._objects.contains(block)}
        self.resumed_bytes = sum(self._lengths[index] for index in self._known)
        self._journal.begin(header.raw)
        self._pieces = Ahead(self._all(header.raw), _AHEAD_BLOCKS)
        self._left = memoryview(b"")

    def __enter__(self) -> ResumingStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pieces.close()

    def finished(self) -> None:
        """The file is complete and right: nothing is to be resumed."""
        self._pieces.close()
        self._journal.forget()

    def wrong(self) -> None:
        """The bytes were not the file's: the next try starts at its beginning, with nothing of it."""
        self._pieces.close()
        self._journal.distrust()

    def broken(self) -> None:
        """The download ended early: the next try goes on here."""
        self._pieces.close()
        self._journal.save()

    def _journaled(self, header: Header) -> dict[int, ObjectId]:
        if self._journal.header() != header.raw:
            return {}
        return dict(enumerate(self._journal.ids()[: len(self._lengths)]))

    def _all(self, header: bytes) -> Generator[memoryview, None, None]:
        """The file block by block: runs that the store has, and one request for each run between them."""
        yield memoryview(header)
        position = len(header)
        for here, run in groupby(range(len(self._lengths)), key=self._known.__contains__):
            indices = list(run)
            stop = position + sum(self._lengths[index] for index in indices)
            if here:
                for index in indices:
                    self._journal.append(self._known[index])
                    yield memoryview(self._objects.read(self._known[index]))
            else:
                with self._open(position, stop) as stream:
                    for index in indices:
                        data = bytearray(self._lengths[index])
                        stream.fill(memoryview(data))
                        self._journal.append(block_id(data))
                        yield memoryview(data)
            position = stop

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, view: memoryview) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _block_lengths(header: Header, block_elements: int) -> list[int]:
    """Raw lengths of the blocks that the file's tensors will be cut into, in file order; none is empty."""
    return [
        length
        for tensor in header.tensors
        for length in blocks.byte_lengths(tensor.data_bytes, tensor.dtype.bits, block_elements)
        if length
    ]
