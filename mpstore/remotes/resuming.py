"""A safetensors file of the Hub as one stream: what an earlier pull left in the store, then the network.

Relies on download, journal and repository. Promises: the bytes are the file's, in order; only what the store
lacks is requested; memory is a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from blake3 import blake3

from mpstore import blocks
from mpstore.ids import ObjectId
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


class ResumingStream:
    """`readinto` and `read` over a whole safetensors file whose header is known. Context manager."""

    def __init__(
        self, repo: Repo, hub: Hub, model: HubModel, file: HubFile, header: Header, traffic: Traffic
    ) -> None:
        self._objects = repo.objects
        self._lengths = _block_lengths(header, repo.config.block_elements)
        self._journal = Journal(repo.root, model.address.repo_id, model.commit, file.path)
        known = self._known(header)
        self.resumed_bytes = sum(self._lengths[: len(known)])
        self._journal.begin(header.raw)
        for block in known:
            self._journal.append(block)
        self._network = HubStream(
            hub, model, file, len(header.raw) + self.resumed_bytes, file.size, traffic.add
        )
        self._local = self._local_pieces(header.raw, known)
        self._left = memoryview(b"")
        self._index = len(known)
        self._hash = blake3()
        self._lacking = self._lengths[self._index] if self._index < len(self._lengths) else 0

    def __enter__(self) -> ResumingStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._network.__exit__()

    def finished(self) -> None:
        """The file is complete and right: nothing is to be resumed."""
        self._journal.forget()

    def wrong(self) -> None:
        """The bytes were not the file's: the next try starts at its beginning."""
        self._journal.forget()

    def broken(self) -> None:
        """The download ended early: the next try goes on here."""
        self._journal.save()

    def _known(self, header: Header) -> list[ObjectId]:
        if self._journal.header() != header.raw:
            return []
        known: list[ObjectId] = []
        for block in self._journal.ids()[: len(self._lengths)]:
            if not self._objects.contains(block):
                break
            known.append(block)
        return known

    def _local_pieces(self, header: bytes, known: list[ObjectId]) -> Iterator[memoryview]:
        yield memoryview(header)
        for block in known:
            yield memoryview(self._objects.read(block))

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, view: memoryview) -> int:
        while not self._left:
            piece = next(self._local, None)
            if piece is None:
                got = self._network.readinto(view)
                self._count(view[:got])
                return got
            self._left = piece
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _count(self, data: memoryview) -> None:
        """Note the ids of the blocks that pass by."""
        while data:
            part = data[: self._lacking]
            self._hash.update(part)
            self._lacking -= len(part)
            data = data[len(part) :]
            if not self._lacking:
                self._journal.append(self._hash.digest())
                self._hash = blake3()
                self._index += 1
                if self._index == len(self._lengths):
                    return
                self._lacking = self._lengths[self._index]


def _block_lengths(header: Header, block_elements: int) -> list[int]:
    """Raw lengths of the blocks that the file's tensors will be cut into, in file order; none is empty."""
    return [
        length
        for tensor in header.tensors
        for length in blocks.byte_lengths(tensor.data_bytes, tensor.dtype.bits, block_elements)
        if length
    ]
