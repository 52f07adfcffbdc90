"""Moving live frames out of packs that are to go, and encoding them anew on the way.

Relies on objects, writer and codecs. Promises: a frame is copied only after it has decoded to its id, and one
that does not is made anew from another copy, if there is any; ids never change; an encoding is replaced only
by a smaller one, or where its base goes; what a copy leans on is copied too, or pinned and seen to be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore import codecs
from mpstore.codecs import Level
from mpstore.errors import DamagedError
from mpstore.events import Task
from mpstore.ids import ObjectId, short
from mpstore.store import frame as frames
from mpstore.store.decoding import decode_frame
from mpstore.store.frame import NO_BASE, Frame
from mpstore.store.locations import Locations
from mpstore.store.objects import ObjectStore
from mpstore.store.packindex import IndexTable
from mpstore.store.writer import ObjectWriter

_CHUNK_BYTES: Final = 32 << 20
_Encoded = tuple[frames.FrameHeader, tuple[Any, ...]]


@dataclass(frozen=True)
class Repacked:
    """given_objects: those that have a base now and had none. damaged: packs of which a frame could not be
    copied, with the reason: they must stay."""

    copied_objects: int
    given_objects: int
    read_bytes: int
    written_bytes: int
    damaged: dict[ObjectId, str]


@dataclass(frozen=True)
class Bases:
    """What the rows to be copied are to lean on. ids: uint8[n, 32], zeros none; changed: bool[n], that is
    another base than they have; packs: where it lies, None where it is among the rows itself."""

    ids: npt.NDArray[np.uint8]
    changed: npt.NDArray[np.bool_]
    packs: Sequence[ObjectId | None]


def locations(store: ObjectStore, table: IndexTable, rows: npt.NDArray[np.int64]) -> Locations:
    """The exact places that rows of a table name (not whichever copy `locate` prefers)."""
    numbers = np.array([store.packs.number_of(info.id) for info in table.packs], np.int32)
    return Locations(
        ids=table.ids(rows),
        found=np.ones(len(rows), np.bool_),
        pack=numbers[table.pack[rows]],
        offset=table.offset[rows],
        frame_bytes=table.frame_bytes[rows],
        raw_bytes=table.raw_bytes[rows],
        codec=table.codec[rows],
        form=table.form[rows],
        base_ids=table.base_ids(rows),
    )


def repack(
    store: ObjectStore,
    writer: ObjectWriter,
    table: IndexTable,
    rows: npt.NDArray[np.int64],
    level: Level | None,
    task: Task,
    threads: int,
    bases: Bases,
) -> Repacked:
    """Copy the frames at `rows` into the writer's packs, in the order they lie in; `level`: try for a smaller
    encoding too."""
    places = locations(store, table, rows)
    copier = _Copier(store, writer, bases, level)
    damaged: dict[ObjectId, str] = {}
    copied = given = read_bytes = written_bytes = 0

    def work(row: int) -> tuple[bool, _Encoded] | DamagedError:
        try:
            frame = next(store.fetch(places, [row]))
            return frame.needs_base, copier.encoded(frame, row)
        except DamagedError as error:
            own_id = places.ids[row].tobytes()
            try:
                return bool(places.based[row]), copier.from_copy(own_id, int(places.form[row]), row)
            except DamagedError:
                return error

    with ThreadPoolExecutor(threads) as pool:
        for chunk in _chunks(places):
            for row, made in zip(chunk, pool.map(work, chunk), strict=True):
                if isinstance(made, DamagedError):
                    damaged.setdefault(store.packs.ids[int(places.pack[row])], made.message)
                    continue
                leant, (header, segments) = made
                writer.copy(header, segments)
                copied += 1
                given += header.base != NO_BASE and not leant
                read_bytes += int(places.frame_bytes[row])
                written_bytes += header.frame_bytes
                task.advance(int(places.frame_bytes[row]))
    return Repacked(copied, given, read_bytes, written_bytes, damaged)


def _chunks(places: Locations) -> Iterator[list[int]]:
    """Rows in pack and offset order, as many at a time as memory should hold."""
    chunk: list[int] = []
    size = 0
    for row in np.lexsort((places.offset, places.pack)).tolist():
        chunk.append(row)
        size += int(places.raw_bytes[row])
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Copier:
    """Encodes frames for their new pack. For any number of threads."""

    def __init__(self, store: ObjectStore, writer: ObjectWriter, bases: Bases, level: Level | None) -> None:
        self._store = store
        self._writer = writer
        self._bases = bases
        self._level = level

    def encoded(self, frame: Frame, row: int) -> _Encoded:
        """The frame as it is, or a smaller one; one on another base where it must be."""
        base_raw = self._store.read(frame.base) if frame.needs_base else None
        raw = decode_frame(frame, base_raw)
        base = None if base_raw is None else (frame.base, base_raw)
        if self._bases.changed[row]:
            base = self._new_base(row)
        if base is not None and not self._stays(base[0], row):
            base = None  # another gc was quicker
        if base_raw is not None and (base is None or base[0] != frame.base):
            return self._anew(frame.id, frame.header.form, raw, base)
        if self._level is None and not self._bases.changed[row]:
            return frame.header, frame.segments
        header, segments = self._anew(frame.id, frame.header.form, raw, base)
        if header.frame_bytes >= frame.header.frame_bytes:
            return frame.header, frame.segments
        return header, segments

    def from_copy(self, own_id: ObjectId, form: int, row: int) -> _Encoded:
        """An object whose frame is damaged, from another one. DamagedError: there is none that is whole."""
        raw = np.frombuffer(self._store.read(own_id), np.uint8)
        base = self._new_base(row)
        return self._anew(own_id, form, raw, base if base is not None and self._stays(base[0], row) else None)

    def _anew(
        self, own_id: ObjectId, form: int, raw: npt.NDArray[np.uint8], base: tuple[ObjectId, Any] | None
    ) -> _Encoded:
        return _proved(own_id, form, raw, base, self._level or self._store.options.level)

    def _stays(self, base: ObjectId, row: int) -> bool:
        """Whether what is written now may lean on the base: it moves along, or is pinned and there."""
        if base != self._bases.ids[row].tobytes():
            return self._writer.adopt(base)
        pack = self._bases.packs[row]
        return pack is None or self._writer.hold_pack(pack)

    def _new_base(self, row: int) -> tuple[ObjectId, Any] | None:
        own_id = self._bases.ids[row].tobytes()
        try:
            return None if own_id == NO_BASE else (own_id, self._store.read(own_id))
        except DamagedError:
            return None


def _proved(
    own_id: ObjectId,
    form: int,
    raw: npt.NDArray[np.uint8],
    base: tuple[ObjectId, Any] | None,
    level: Level,
) -> _Encoded:
    """Encoded, and decoded to see. DamagedError: that gave something else."""
    header, segments = frames.encode(own_id, raw, form, base, level)
    leant_on = None if header.base == NO_BASE or base is None else base[1]
    codec_form = frames.codec_form(header.form)
    if not np.array_equal(codecs.decode(header.codec, codec_form, segments, header.raw_bytes, leant_on), raw):
        raise DamagedError(f"object {short(own_id)} does not decode to what was encoded")
    return header, tuple(segments)
