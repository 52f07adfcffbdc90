"""Indexes: sorted, fixed-width columns over the frames of one pack (.idx) or of many (cache/), memory-mapped.

Relies on pack and numpy. Promises: searching is done in bulk; an index that is short, long or of another
version raises DamagedError when opened; `verify` proves every byte. Layout: docs/format.md, "Indexes".
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from mpstore import kernels
from mpstore.errors import DamagedError, StorageError
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.kernels.idrows_numpy import prefixes, rows_of
from mpstore.regular_file import open_regular
from mpstore.store.frame import NO_BASE
from mpstore.store.pack import PACK_HEADER_BYTES, Entry

MAGIC: Final = b"mpIX"
VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sHHQQQII")  # magic version reserved rows bases packs reserved crc
_PACK_ROW: Final = struct.Struct("<32sQQ")  # id, bytes, kind
_TRAILER_BYTES: Final = 32
_NO_BASE_ROW: Final = 0xFFFFFFFF
_SUFFIX_BYTES: Final = ID_BYTES - 8
_FEW_IDS: Final = 64  # that are looked up without a thought to order
_COLUMNS: Final = (  # name, dtype, width; in file order, eight-byte items first so that all are aligned
    ("prefix", "<u8", 1),
    ("offset", "<u8", 1),
    ("suffix", "u1", _SUFFIX_BYTES),
    ("frame_bytes", "<u4", 1),
    ("raw_bytes", "<u4", 1),
    ("base_row", "<u4", 1),
    ("pack", "<u4", 1),
    ("codec", "u1", 1),
    ("form", "u1", 1),
)

Column = npt.NDArray[Any]
Ids = npt.NDArray[np.uint8]


class PackInfo(NamedTuple):
    """A pack as an index knows it."""

    id: ObjectId
    size_bytes: int
    kind: int


@dataclass(frozen=True)
class IndexTable:
    """Columns over n frames, sorted by id; among equal ids those that need no base come first.

    prefix: uint64[n], the first eight bytes of the id as a big-endian number; suffix: uint8[n, 24], the rest;
    offset: uint64[n]; frame_bytes, raw_bytes, base_row, pack: uint32[n] (rows of `bases` and `packs`);
    codec, form: uint8[n]; bases: uint8[m, 32].
    """

    packs: tuple[PackInfo, ...]
    bases: Ids
    prefix: Column
    offset: Column
    suffix: Column
    frame_bytes: Column
    raw_bytes: Column
    base_row: Column
    pack: Column
    codec: Column
    form: Column

    @property
    def rows(self) -> int:
        return len(self.prefix)

    def ids(self, rows: Any = slice(None)) -> Ids:
        """uint8[k, 32]: the ids of rows."""
        prefix = np.ascontiguousarray(self.prefix[rows]).astype(">u8")
        return np.concatenate([prefix.view(np.uint8).reshape(-1, 8), self.suffix[rows]], axis=1)

    def base_ids(self, rows: npt.NDArray[np.int64]) -> Ids:
        """uint8[k, 32]: the delta-base ids of rows, zeros where there is none."""
        out = np.zeros((len(rows), ID_BYTES), np.uint8)
        base_rows = np.asarray(self.base_row[rows])
        has = np.flatnonzero(base_rows < len(self.bases))  # a damaged row number finds no base
        out[has] = self.bases[base_rows[has]]
        return out

    def base_of(self, row: int) -> ObjectId:
        """The delta-base id of one row, NO_BASE where there is none."""
        base_row = int(self.base_row[row])
        return self.bases[base_row].tobytes() if base_row < len(self.bases) else NO_BASE

    def is_based(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """bool[k]: which rows lean on a base; a damaged row number is of no base."""
        based: npt.NDArray[np.bool_] = self.base_row[rows] < len(self.bases)
        return based

    def leans_elsewhere(self, rows: npt.NDArray[np.int64], own: Ids) -> npt.NDArray[np.bool_]:
        """bool[k]: which rows lean on a base other than their `own` (uint8[k, 32])."""
        ids = np.ascontiguousarray(own)
        out: npt.NDArray[np.bool_] = kernels.pick("idrows").lean_elsewhere(
            self.base_row, self.bases, rows, ids
        )
        return out

    def search(self, ids: Ids, keys: npt.NDArray[np.uint64] | None = None) -> npt.NDArray[np.int64]:
        """int64[k]: the first row of each of the ids (uint8[k, 32]), -1 where there is none; `keys`: what
        `search_keys` says of them, where they are sought in several tables."""
        if len(ids) <= _FEW_IDS:
            few: npt.NDArray[np.int64] = kernels.pick("idrows").find_few(self.prefix, self.suffix, ids)
            return few
        return rows_of(self.prefix, self.suffix, ids, prefixes(ids) if keys is None else keys)

    def first(self, object_id: ObjectId) -> int:
        """The first row of one id, -1 where there is none: `search` without the cost of arrays."""
        key = np.uint64(int.from_bytes(object_id[:8], "big"))
        row = int(self.prefix.searchsorted(key))
        rest = object_id[8:]
        while row < self.rows and self.prefix[row] == key:
            if self.suffix[row].tobytes() == rest:
                return row
            row += 1
        return -1

    def range_of(self, low: int, high: int) -> range:
        """Rows whose prefix number is in [low, high]."""
        start = int(np.searchsorted(self.prefix, np.uint64(low), "left"))
        return range(start, int(np.searchsorted(self.prefix, np.uint64(high), "right")))


def search_keys(ids: Ids) -> npt.NDArray[np.uint64] | None:
    """The prefixes of ids, which `search` would make anew for each table; None: they are few, and it has no
    use for them."""
    return None if len(ids) <= _FEW_IDS else prefixes(ids)


def column_type(name: str) -> np.dtype[Any]:
    """The dtype of a column."""
    return np.dtype(next(dtype for own, dtype, _ in _COLUMNS if own == name))


def as_ids(concatenated: bytes) -> Ids:
    """uint8[k, 32] over concatenated ids."""
    return np.frombuffer(concatenated, np.uint8).reshape(-1, ID_BYTES)


def build(info: PackInfo, entries: Sequence[Entry]) -> IndexTable:
    """The index of one pack."""
    headers = [entry.header for entry in entries]
    ids = as_ids(b"".join(header.id for header in headers))
    base_rows: dict[ObjectId, int] = {NO_BASE: _NO_BASE_ROW}
    base_row = [base_rows.setdefault(header.base, len(base_rows) - 1) for header in headers]
    count = len(entries)
    table = IndexTable(
        packs=(info,),
        bases=as_ids(b"".join(list(base_rows)[1:])),
        prefix=prefixes(ids),
        offset=np.fromiter((entry.offset for entry in entries), np.uint64, count),
        suffix=ids[:, 8:],
        frame_bytes=np.fromiter((header.frame_bytes for header in headers), np.uint32, count),
        raw_bytes=np.fromiter((header.raw_bytes for header in headers), np.uint32, count),
        base_row=np.array(base_row, np.uint32),
        pack=np.zeros(count, np.uint32),
        codec=np.fromiter((header.codec for header in headers), np.uint8, count),
        form=np.fromiter((header.form for header in headers), np.uint8, count),
    )
    return _sorted(table)


def merge(tables: Sequence[IndexTable], dropped: Iterable[ObjectId] = ()) -> IndexTable:
    """One table over the packs of all, without those in `dropped`. Equal ids stay, one row a pack."""
    if not tables:
        return replace(build(PackInfo(NO_BASE, 0, 0), []), packs=())
    gone = set(dropped)
    packs = tuple(info for table in tables for info in table.packs if info.id not in gone)
    number = {info.id: i for i, info in enumerate(packs)}
    columns: dict[str, list[Column]] = {name: [] for name, _, _ in _COLUMNS}
    first_base = 0
    for table in tables:
        check_rows(table)
        numbers = np.array([number.get(info.id, -1) for info in table.packs], np.int64)[table.pack]
        keep = np.flatnonzero(numbers >= 0) if gone else slice(None)
        base_row = np.asarray(table.base_row[keep])
        shifted = np.where(base_row == _NO_BASE_ROW, base_row, base_row + np.uint32(first_base))
        for name, _, _ in _COLUMNS:
            columns[name].append(getattr(table, name)[keep])
        columns["pack"][-1] = numbers[keep].astype(np.uint32)
        columns["base_row"][-1] = shifted.astype(np.uint32)
        first_base += len(table.bases)
    bases = np.concatenate([table.bases for table in tables])
    return _sorted(IndexTable(packs, bases, **{name: np.concatenate(c) for name, c in columns.items()}))


def check_rows(table: IndexTable) -> None:
    """DamagedError unless every row points at a pack and a base that the table has."""
    based = table.base_row[table.base_row != _NO_BASE_ROW]
    if table.rows and table.pack.max() >= len(table.packs):
        raise DamagedError("an index points at a pack that it does not list")
    if based.size and based.max() >= len(table.bases):
        raise DamagedError("an index points at a base that it does not list")


def same(one: IndexTable, other: IndexTable) -> bool:
    """Whether two tables say the same, however they number the bases."""
    rows = np.arange(one.rows)
    return (
        one.packs == other.packs
        and all(np.array_equal(getattr(one, n), getattr(other, n)) for n, _, _ in _COLUMNS if n != "base_row")
        and np.array_equal(one.base_ids(rows), other.base_ids(rows))
    )


def unaccounted_packs(table: IndexTable) -> frozenset[ObjectId]:
    """Packs whose frames, as far as the table has them, are not all of the pack."""
    frames = np.bincount(table.pack, weights=table.frame_bytes, minlength=len(table.packs))
    return frozenset(
        info.id
        for info, frame_bytes in zip(table.packs, frames.tolist(), strict=True)
        if PACK_HEADER_BYTES + frame_bytes != info.size_bytes
    )


def demote(table: IndexTable, rows: npt.NDArray[np.int64]) -> IndexTable:
    """The table with these rows behind all others of the same id."""
    last = np.zeros(table.rows, np.bool_)
    last[rows] = True
    return _in_order(table, np.argsort(last, kind="stable"))


def _sorted(table: IndexTable) -> IndexTable:
    return _in_order(table, np.argsort(table.base_row != _NO_BASE_ROW, kind="stable"))


def _in_order(table: IndexTable, order: npt.NDArray[np.int64]) -> IndexTable:
    """Sorted by id, and among equal ids in `order`."""
    order = order[np.argsort(table.prefix[order], kind="stable")]
    columns = {name: np.ascontiguousarray(getattr(table, name)[order]) for name, _, _ in _COLUMNS}
    return IndexTable(table.packs, table.bases, **columns)


def to_bytes(table: IndexTable) -> bytes:
    """The index as a file."""
    rows, bases, packs = table.rows, len(table.bases), len(table.packs)
    header = _HEADER.pack(MAGIC, VERSION, 0, rows, bases, packs, 0, 0)
    crc = struct.pack("<I", zlib.crc32(header[:-4]))
    parts = [header[:-4], crc, *(_PACK_ROW.pack(*info) for info in table.packs), table.bases.tobytes()]
    parts += [getattr(table, name).astype(dtype, copy=False).tobytes() for name, dtype, _ in _COLUMNS]
    body = b"".join(parts)
    return body + blake3(body).digest()


def open_index(path: str, verify_below_bytes: int = 1 << 16) -> IndexTable:
    """Map an index file. Files up to `verify_below_bytes` are proved by their trailer on the way.

    FileNotFoundError: it is not there. DamagedError: it is not what it claims to be.
    """
    try:
        fd, size = open_regular(path)
        try:
            if size <= verify_below_bytes:
                return parse(os.pread(fd, size, 0), path, verify=True)
            data = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    return parse(data, path)


def parse(data: Any, path: str, verify: bool = False) -> IndexTable:
    """The table over an index's bytes; `verify` checks the trailer too."""
    view = memoryview(data)
    if view.nbytes < _HEADER.size + _TRAILER_BYTES:
        raise DamagedError(f"index {path}: cut off")
    magic, version, _, rows, bases, packs, _, crc = _HEADER.unpack_from(view)
    if magic != MAGIC or zlib.crc32(view[: _HEADER.size - 4]) != crc:
        raise DamagedError(f"index {path}: its header is damaged")
    if version != VERSION:
        raise DamagedError(f"index {path}: version {version}, this mp reads version {VERSION}")
    if view.nbytes != _file_bytes(rows, bases, packs):
        raise DamagedError(f"index {path}: {view.nbytes} bytes long, not the {rows} rows it claims")
    if verify and blake3(view[:-_TRAILER_BYTES]).digest() != view[-_TRAILER_BYTES:]:
        raise DamagedError(f"index {path}: its content does not have its checksum")
    return _table(view, rows, bases, packs)


def _file_bytes(rows: int, bases: int, packs: int) -> int:
    row_bytes = sum(np.dtype(dtype).itemsize * width for _, dtype, width in _COLUMNS)
    return _HEADER.size + packs * _PACK_ROW.size + bases * ID_BYTES + rows * row_bytes + _TRAILER_BYTES


def _table(view: memoryview, rows: int, bases: int, packs: int) -> IndexTable:
    position = _HEADER.size
    infos = tuple(PackInfo(*_PACK_ROW.unpack_from(view, position + i * _PACK_ROW.size)) for i in range(packs))
    position += packs * _PACK_ROW.size
    base_ids = np.frombuffer(view, np.uint8, bases * ID_BYTES, position).reshape(-1, ID_BYTES)
    position += bases * ID_BYTES
    columns: dict[str, Column] = {}
    for name, dtype, width in _COLUMNS:
        column = np.frombuffer(view, dtype, rows * width, position)
        columns[name] = column.reshape(rows, width) if width > 1 else column
        position += column.nbytes
    return IndexTable(infos, base_ids, **columns)


def verify(path: str) -> IndexTable:
    """Open an index and prove every byte of it against its trailer."""
    return open_index(path, verify_below_bytes=1 << 62)
