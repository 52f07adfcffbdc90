"""What a pack holds by its own account: for packs whose index is lost, or is not believed.

Relies on pack and frame. Promises: every frame whose header is whole and whose payload ends inside the file
is found, whatever lies between; no payload is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mpstore.errors import DamagedError
from mpstore.store.frame import FIXED_BYTES, MAGIC, MAX_HEADER_BYTES, FrameHeader, parse_header
from mpstore.store.pack import PACK_HEADER_BYTES, PAGE_BYTES, Entry, PackFile, check_pack_header

_SCAN_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Scan:
    """What a pack holds by its own account: frames in offset order, and the (start, stop) byte ranges that
    are no frames. `kind` is None when the pack's header is damaged."""

    kind: int | None
    entries: tuple[Entry, ...]
    damaged: tuple[tuple[int, int], ...]


def scan(pack: PackFile) -> Scan:
    """Find every frame whose header is whole and whose payload ends inside the file; no payload is read."""
    size = pack.size
    entries: list[Entry] = []
    damaged: list[tuple[int, int]] = []
    kind: int | None = None
    try:
        kind = check_pack_header(pack)
    except DamagedError:
        damaged.append((0, min(size, PACK_HEADER_BYTES)))
    offset = PACK_HEADER_BYTES
    while offset < size:
        header = _header_at(pack, offset, size)
        if header is None:
            start, offset = offset, _next_magic(pack, offset + 1, size)
            damaged.append((start, offset))
            continue
        entries.append(Entry(header, offset))
        offset += header.frame_bytes
    return Scan(kind, tuple(entries), _joined(damaged))


def _joined(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    out: list[tuple[int, int]] = []
    for start, stop in ranges:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return tuple(out)


def _header_at(pack: PackFile, offset: int, size: int) -> FrameHeader | None:
    length = min(size - offset, MAX_HEADER_BYTES)
    if length < FIXED_BYTES:
        return None
    try:
        header = parse_header(pack.readable(offset, length, "scan"), "")
    except DamagedError:
        return None
    return header if offset + header.frame_bytes <= size else None


def _next_magic(pack: PackFile, offset: int, size: int) -> int:
    """The next place at or after `offset` where a frame may begin; `size` when there is none. What cannot be
    read is leapt over, by more each time."""
    pages = 1
    while offset < size:
        wanted = min(_SCAN_BYTES, size - offset)
        data = bytes(pack.readable(offset, wanted, "scan"))
        found = data.find(MAGIC)
        if found >= 0:
            return offset + found
        offset += len(data)
        if len(data) < wanted:
            offset = (offset // PAGE_BYTES + pages) * PAGE_BYTES
            pages = 1 if data else min(2 * pages, _SCAN_BYTES // PAGE_BYTES)
        elif offset < size:
            offset -= len(MAGIC) - 1
    return size
