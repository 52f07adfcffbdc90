"""Packs: files of frames, written once and read with `pread`. The only module that reads packs.

Relies on files, layout and frame. Promises: a read takes exactly the bytes of the frames asked for,
neighbours in one call, read-ahead switched off, and is counted by purpose.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from mpstore import page_cache
from mpstore.errors import DamagedError, StorageError
from mpstore.files.past_cache import PastCacheFile
from mpstore.ids import ObjectId
from mpstore.regular_file import open_regular
from mpstore.store.frame import (
    Frame,
    FrameHeader,
    Piece,
    open_piece,
    pack_header,
)
from mpstore.store.layout import pack_path

PACK_MAGIC: Final = b"mpPK"
PACK_VERSION: Final = 1
BLOCKS: Final = 0
RECORDS: Final = 1
_PACK_HEADER: Final = struct.Struct("<4sHH")
PACK_HEADER_BYTES: Final = _PACK_HEADER.size
PAGE_BYTES: Final = 4096
"""What a disk fails to read at a time."""

ReadObserver = Callable[[str, int, int, str], None]  # path, offset, bytes, purpose
_read_observer: ReadObserver | None = None


def set_read_observer(observer: ReadObserver | None) -> None:
    """Have every pread of a pack told to `observer`: the audit that budgets are tested against. It may raise
    OSError: a fault of the disk."""
    global _read_observer
    _read_observer = observer


class ReadMeter:
    """Bytes read from packs by purpose: "expert", "base", "record", "other". For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()

    def count(self, purpose: str, read_bytes: int) -> None:
        """Add to a purpose."""
        with self._lock:
            self._bytes[purpose] += read_bytes

    def read_bytes(self, purpose: str | None = None) -> int:
        """Bytes read for a purpose, or for all together."""
        with self._lock:
            return self._bytes.total() if purpose is None else self._bytes[purpose]


@dataclass(frozen=True)
class Entry:
    """A frame's place: what an index has of it."""

    header: FrameHeader
    offset: int


class PackFile:
    """An open pack of `size` bytes. Threads share it; it is closed when the last one lets go of it."""

    def __init__(self, path: str) -> None:
        """FileNotFoundError: it is not there. DamagedError: it is no file. StorageError: it cannot be
        opened."""
        self.path = path
        self.name = os.path.basename(path)
        self._fd = -1
        try:
            self._fd, self.size = open_regular(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        _switch_off_read_ahead(self._fd)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; for tests and tools that do not share it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, length: int, purpose: str, meter: ReadMeter | None) -> memoryview:
        """Exactly `length` bytes at `offset`; DamagedError where the file ends before."""
        if offset + length > self.size:
            raise DamagedError(f"pack {self.name}: {length} bytes at offset {offset} are past its end")
        if _read_observer is not None:
            self._tell(_read_observer, offset, length, purpose)
        parts = []
        position, missing = offset, length
        while missing:
            part = self._pread(position, missing)
            if not part:
                raise DamagedError(f"pack {self.name}: ends at {position}, {missing} bytes short")
            parts.append(part)
            position += len(part)
            missing -= len(part)
        if meter is not None:
            meter.count(purpose, length)
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def readable(self, offset: int, length: int, purpose: str) -> memoryview:
        """What can be read of these bytes, up to the first page that cannot: for looking at damaged packs."""
        with contextlib.suppress(DamagedError):
            return self.read(offset, length, purpose, None)
        parts, stop = [], offset + length
        with contextlib.suppress(DamagedError):
            while offset < stop:
                size = min(stop - offset, PAGE_BYTES - offset % PAGE_BYTES)
                parts.append(self.read(offset, size, purpose, None))
                offset += size
        return memoryview(b"".join(parts))

    def _tell(self, observer: ReadObserver, offset: int, length: int, purpose: str) -> None:
        try:
            observer(self.path, offset, length, purpose)
        except OSError as error:
            raise self._unreadable(offset, error) from error

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise self._unreadable(offset, error) from error

    def _unreadable(self, offset: int, error: OSError) -> DamagedError:
        return DamagedError(f"pack {self.name}: reading at {offset}: {error.strerror}")

    def prefetch(self, offset: int, length: int) -> None:
        """Have the kernel read ahead, in the background, what is sure to be read soon."""
        page_cache.will_need(self._fd, offset, length)


def _switch_off_read_ahead(fd: int) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(fd, 45, 0)  # F_RDAHEAD, which Python's fcntl does not name
        elif hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)


def check_pack_header(pack: PackFile) -> int:
    """The kind of the pack (BLOCKS or RECORDS). DamagedError: it is none, or of a version to come."""
    magic, version, kind = _PACK_HEADER.unpack(pack.read(0, PACK_HEADER_BYTES, "scan", None))
    if magic != PACK_MAGIC or kind not in (BLOCKS, RECORDS):
        raise DamagedError(f"pack {pack.name}: does not begin as a pack does")
    if version != PACK_VERSION:
        raise DamagedError(f"pack {pack.name}: version {version}, this mp reads version {PACK_VERSION}")
    return int(kind)


class PackWriter:
    """A pack under construction in tmp_dir. One thread."""

    def __init__(self, tmp_dir: str, kind: int) -> None:
        self._hasher = blake3()
        self._staged = PastCacheFile(tmp_dir, self._hasher)
        self.kind = kind
        self.entries: list[Entry] = []
        self._whole = True
        self._staged.write(_PACK_HEADER.pack(PACK_MAGIC, PACK_VERSION, kind))

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._staged.tell()

    def append(self, header: FrameHeader, segments: Sequence[Any]) -> None:
        """Add a frame at the end. Segments are copied or written before this returns."""
        self.append_many([(header, segments)], self.size + 1)

    def append_many(self, frames: Sequence[tuple[FrameHeader, Sequence[Any]]], until_bytes: int) -> int:
        """`append` of frames in turn until the pack is of `until_bytes` or more: how many went in."""
        offset = self.size
        buffers: list[Any] = []
        entries: list[Entry] = []
        for header, segments in frames:
            if offset >= until_bytes:
                break
            own = pack_header(header)
            buffers.append(own)
            buffers += segments
            entries.append(Entry(header, offset))
            offset += len(own) + sum(header.segment_bytes)
        self._whole = False
        for buffer in buffers:
            self._staged.write(buffer)
        self.entries += entries
        self._whole = True
        return len(entries)

    def seal(self) -> ObjectId:
        """Make the content durable; the pack's id, which is the BLAKE3 of its bytes. StorageError: an
        append failed midway, so that the pack is of no use."""
        if not self._whole:
            raise StorageError("a pack was left half-written by an earlier error")
        self._staged.fsync()
        return self._hasher.digest()

    def publish(self, directory: str, pack_id: ObjectId) -> None:
        """Give the sealed pack its name in `directory`, durably."""
        self._staged.publish(pack_path(directory, pack_id))

    def discard(self) -> None:
        """Throw it away, unless published."""
        self._staged.discard()


def coalesced(places: Sequence[tuple[int, int]], limit_bytes: int = 8 << 20) -> Iterator[tuple[int, int]]:
    """Slices [i, j) of `places` ((offset, length), sorted by offset) that lie side by side, up to a limit."""
    start = 0
    for i in range(1, len(places) + 1):
        if i < len(places):
            follows = places[i][0] == places[i - 1][0] + places[i - 1][1]
            if follows and places[i][0] + places[i][1] - places[start][0] <= limit_bytes:
                continue
        if i > start:
            yield start, i
            start = i


def read_group(pack: PackFile, group: Sequence[Entry]) -> tuple[memoryview, list[Frame]]:
    """Frames that lie side by side in one read: their bytes together, and each of them."""
    start = group[0].offset
    data = pack.read(start, group[-1].offset + group[-1].header.frame_bytes - start, "verify", None)
    frames = []
    for entry in group:
        place = entry.offset - start
        own = data[place : place + entry.header.frame_bytes]
        frames.append(open_piece(Piece(entry.header.id, own, pack.name, entry.offset, "verify")))
    return data, frames
