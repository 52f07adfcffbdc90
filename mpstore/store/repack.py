"""Moving live frames out of packs that are to go, and encoding them anew on the way.

Relies on objects, writer and codecs. Promises: a frame is copied only after it has decoded to its id; ids,
and which blocks are deltas, never change; an encoding is replaced only by a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore import codecs
from mpstore.codecs import Level
from mpstore.errors import DamagedError
from mpstore.events import Task
from mpstore.ids import ObjectId
from mpstore.store import frame as frames
from mpstore.store.frame import NO_BASE, Frame
from mpstore.store.locations import Locations
from mpstore.store.objects import ObjectStore, decode_frame
from mpstore.store.packindex import IndexTable
from mpstore.store.writer import ObjectWriter

_CHUNK_BYTES: Final = 32 << 20


@dataclass(frozen=True)
class Repacked:
    """damaged: packs of which a frame could not be copied, with the reason: they must stay."""

    copied_objects: int
    read_bytes: int
    written_bytes: int
    damaged: dict[ObjectId, str]


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
    threads: int = 1,
) -> Repacked:
    """Copy the frames at `rows` into the writer's packs, in the order they lie in; `level`: try for a smaller
    encoding too."""
    places = locations(store, table, rows)
    damaged: dict[ObjectId, str] = {}
    copied = read_bytes = written_bytes = 0

    def work(row: int) -> tuple[Frame, frames.FrameHeader, tuple[Any, ...]] | DamagedError:
        try:
            frame = next(store.fetch(places, [row]))
            return (frame, *_encoded(frame, store, level))
        except DamagedError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        for chunk in _chunks(places):
            for row, made in zip(chunk, pool.map(work, chunk), strict=True):
                if isinstance(made, DamagedError):
                    damaged.setdefault(store.packs.ids[int(places.pack[row])], made.message)
                    continue
                frame, header, segments = made
                writer.copy(header, segments)
                copied += 1
                read_bytes += frame.header.frame_bytes
                written_bytes += header.frame_bytes
                task.advance(frame.header.frame_bytes)
    return Repacked(copied, read_bytes, written_bytes, damaged)


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


def _encoded(
    frame: Frame, store: ObjectStore, level: Level | None
) -> tuple[frames.FrameHeader, tuple[Any, ...]]:
    base_raw = store.read(frame.base) if frame.needs_base else None
    raw = decode_frame(frame, base_raw)
    if level is None:
        return frame.header, frame.segments
    base = None if base_raw is None else (frame.base, base_raw)
    header, segments = frames.encode(frame.id, raw, frame.header.form, base, level)
    if header.frame_bytes >= frame.header.frame_bytes:
        return frame.header, frame.segments
    again = codecs.decode(
        header.codec,
        frames.codec_form(header.form),
        segments,
        header.raw_bytes,
        None if header.base == NO_BASE else base_raw,
    )
    if not np.array_equal(again, raw):
        return frame.header, frame.segments
    return header, tuple(segments)
