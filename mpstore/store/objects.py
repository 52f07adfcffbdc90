"""The object store: objects by id out of packs, decoded, verified, counted.

Relies on packset, finding, pack, frame and decoding. Promises: what `read` and `decode` return hashes to its
id, or a DamagedError names the pack and the offset; a read costs exactly the frames asked for; any thread may
read.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mpstore.codecs import Level
from mpstore.codecs.segments import Buffer
from mpstore.errors import DamagedError, NotFoundError
from mpstore.events import Progress, silent
from mpstore.ids import ID_BYTES, ObjectId, short
from mpstore.store.decoding import decode_frame, decode_frames
from mpstore.store.finding import Finder, absent
from mpstore.store.frame import NO_BASE, Frame, Piece, PlaceInPack, open_piece, record_kind
from mpstore.store.layout import Layout, pack_name, pack_path
from mpstore.store.locations import Locations, Place
from mpstore.store.pack import PackFile, ReadMeter, coalesced
from mpstore.store.packindex import as_ids
from mpstore.store.packset import PackSet
from mpstore.store.preparing import WriterOptions
from mpstore.store.trash import restore_objects
from mpstore.store.writer import ObjectWriter

PACK_BYTES: Final = 256 << 20
_OPEN_PACKS: Final = 128
_MAX_DEPTH: Final = 4  # deltas are one deep; copies of one object may make it look deeper for a while


class _Opened(NamedTuple):
    """What was read, and found to be the frame that it must be."""

    piece: Piece
    frame: Frame


class ObjectStore:
    """Objects by id. `meter` counts what is read; `warn` of the progress sink hears of indexes rebuilt."""

    def __init__(
        self,
        mp_dir: str,
        *,
        pack_bytes: int = PACK_BYTES,
        level: Level = Level.DEFAULT,
        verify: bool = True,
        progress: Progress = silent,
    ) -> None:
        self.layout = Layout(str(mp_dir))
        self.packs = PackSet(self.layout, progress.warn)
        self._finder = Finder(self.packs, progress.warn)
        self.meter = ReadMeter()
        self.options = WriterOptions(pack_bytes, level, verify)
        self._warn = progress.warn
        self._open: OrderedDict[int, PackFile] = OrderedDict()
        self._open_lock = threading.Lock()

    @classmethod
    def open(cls, mp_dir: str, **options: Any) -> ObjectStore:
        """The store of a repository's `.mp` directory. Nothing is read before it is asked for."""
        return cls(mp_dir, **options)

    @classmethod
    def init(cls, mp_dir: str, **options: Any) -> ObjectStore:
        """The same, its directories made where they are missing."""
        Layout(str(mp_dir)).create()
        return cls(mp_dir, **options)

    def refresh(self) -> bool:
        """Packs may have come or gone: look. True: they did."""
        return self.packs.refresh()

    def locate(self, ids: bytes) -> Locations:
        """Where each of the concatenated ids lies, as far as this store has looked (see `refresh`)."""
        return self.packs.locate(as_ids(ids))

    def contains(self, object_id: ObjectId) -> bool:
        """Whether the object is in a pack this store knows of."""
        return self.packs.place(object_id) is not None

    def with_prefix(self, prefix: str, kind: str | None = None) -> list[ObjectId]:
        """Ids that begin with these hex digits (at least one), of records of `kind`, or of anything."""
        digits = prefix.lower()
        low, high = int(digits[:16].ljust(16, "0"), 16), int(digits[:16].ljust(16, "f"), 16)
        found: set[ObjectId] = set()
        for numbered in self.packs.tables():
            rows = numbered.table.range_of(low, high)
            ids = numbered.table.ids(slice(rows.start, rows.stop))
            forms = numbered.table.form[rows.start : rows.stop]
            for own, form in zip(ids, forms, strict=True):
                own_id = own.tobytes()
                if own_id.hex().startswith(digits) and (kind is None or record_kind(int(form)) == kind):
                    found.add(own_id)
        return sorted(found)

    def writer(self, label: str) -> ObjectWriter:
        """A registered session to write in; use it as a context manager."""
        return ObjectWriter(self, label)

    # Reading

    def fetch(
        self, locations: Locations, rows: npt.ArrayLike | None = None, purpose: str = "other"
    ) -> Iterator[Frame]:
        """The frames at `rows` of `locations` (None: all) in pack and offset order; `frame.row` tells which.

        Neighbours are read together; nothing beyond the frames is read. A pack that has gone since (gc moved
        its objects) is looked for again, and so is what was not found, since a gc may have put it aside just
        then: that comes last. DamagedError: an object that is not to be had, or not whole.
        """
        return map(self.frame, self.pieces(locations, rows, purpose))

    def pieces(
        self, locations: Locations, rows: npt.ArrayLike | None = None, purpose: str = "other"
    ) -> Iterator[Piece]:
        """`fetch`, without looking into what was read: for many frames that are decoded later, at once."""
        chosen = np.arange(len(locations)) if rows is None else np.atleast_1d(np.asarray(rows, np.int64))
        missing, chosen = chosen[~locations.found[chosen]], chosen[locations.found[chosen]]
        order = chosen[np.lexsort((locations.offset[chosen], locations.pack[chosen]))]
        cuts = np.flatnonzero(np.diff(locations.pack[order])) + 1
        for group in np.split(order, cuts) if order.size else []:
            yield from self._pieces_of(locations, group, purpose)
        if missing.size:
            yield from self._moved(locations, missing, purpose)

    def frame(self, piece: Piece) -> Frame:
        """The frame that was read, or another copy of it where that is damaged."""
        try:
            return open_piece(piece)
        except DamagedError as error:
            return self._elsewhere(piece.id, piece.place, piece.purpose, error, piece.row).frame

    def prefetch(self, locations: Locations, rows: npt.ArrayLike) -> None:
        """Have the kernel read these frames in the background: for reads that are sure to come, and that no
        budget counts. Frames that have moved are let be."""
        chosen = np.atleast_1d(np.asarray(rows, np.int64))
        chosen = chosen[locations.found[chosen]]
        for number in sorted(set(locations.pack[chosen].tolist())):
            own = chosen[locations.pack[chosen] == number]
            start = int(locations.offset[own].min())
            stop = int((locations.offset[own] + locations.frame_bytes[own]).max())
            wanted = int(locations.frame_bytes[own].sum())
            with contextlib.suppress(FileNotFoundError, DamagedError):
                if stop - start <= 2 * wanted:  # else they lie apart, and what is between is not wanted
                    self._pack(number).prefetch(start, stop - start)

    def _pieces_of(self, locations: Locations, rows: npt.NDArray[np.int64], purpose: str) -> Iterator[Piece]:
        """Of rows that lie in one pack."""
        offsets = locations.offset[rows].tolist()
        places = list(zip(offsets, locations.frame_bytes[rows].tolist(), strict=True))
        ids = locations.ids[rows].tobytes()
        own_ids = [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]
        numbers = rows.tolist()
        try:
            pack = self._pack(int(locations.pack[rows[0]]))
        except FileNotFoundError:
            yield from self._moved(locations, rows, purpose)
            return
        except DamagedError as error:  # it is no file
            name = pack_name(self.packs.ids[int(locations.pack[rows[0]])])
            for k, place in enumerate(places):
                yield self._elsewhere(own_ids[k], (name, *place), purpose, error, numbers[k]).piece
            return
        for i, j in coalesced(places):
            start = places[i][0]
            try:
                data = pack.read(start, places[j - 1][0] + places[j - 1][1] - start, purpose, self.meter)
            except DamagedError:  # each on its own then: one bad place must not spoil its neighbours
                for k in range(i, j):
                    yield self._piece_alone(own_ids[k], pack, places[k], purpose, numbers[k])
                continue
            at = 0
            for k in range(i, j):
                offset, length = places[k]
                yield Piece(own_ids[k], data[at : at + length], pack.name, offset, purpose, numbers[k])
                at += length

    def _piece_alone(
        self, own_id: ObjectId, pack: PackFile, place: tuple[int, int], purpose: str, row: int
    ) -> Piece:
        """Read by itself, or another copy of it."""
        offset, length = place
        try:
            data = pack.read(offset, length, purpose, self.meter)
        except DamagedError as error:
            return self._elsewhere(own_id, (pack.name, *place), purpose, error, row).piece
        return Piece(own_id, data, pack.name, offset, purpose, row)

    def _elsewhere(
        self, wanted: ObjectId, tried: PlaceInPack, purpose: str, error: DamagedError, row: int = -1
    ) -> _Opened:
        """The object from another place, when the index lied or there is a second copy; else the error."""
        for opened in self._copies(wanted, tried, purpose, row):
            return opened
        raise error

    def _copies(self, wanted: ObjectId, tried: PlaceInPack, purpose: str, row: int = -1) -> Iterator[_Opened]:
        """The object as it opens in every other place. What is read so comes on top of any budget: only where
        something is damaged."""
        self.packs.prove_indexes()
        for place in self.packs.copies(wanted):
            if self._named(place) != tried:
                with contextlib.suppress(DamagedError, FileNotFoundError):
                    yield self._opened_at(wanted, place, purpose, row)

    def _named(self, place: Place) -> PlaceInPack:
        return pack_name(self.packs.ids[place.pack]), place.offset, place.frame_bytes

    def _opened_at(self, own_id: ObjectId, place: Place, purpose: str, row: int) -> _Opened:
        pack = self._pack(place.pack)
        data = pack.read(place.offset, place.frame_bytes, purpose, self.meter)
        piece = Piece(own_id, data, pack.name, place.offset, purpose, row)
        return _Opened(piece, open_piece(piece))

    def _moved(self, locations: Locations, rows: npt.NDArray[np.int64], purpose: str) -> Iterator[Piece]:
        """The pack has gone: its objects are elsewhere, or in the trash of a gc yet to look again."""
        ids = locations.ids[rows]
        self.refresh()
        found = self.packs.known(ids)
        if not found.all() and restore_objects(self.layout, ids[~found], self._warn):
            self.refresh()
        for own_id, row in zip(ids, rows.tolist(), strict=True):
            yield self._opened(own_id.tobytes(), purpose, row).piece

    def _pack(self, number: int) -> PackFile:
        """The open pack; FileNotFoundError where it has gone."""
        with self._open_lock:
            pack = self._open.get(number)
            if pack is None:
                pack = PackFile(pack_path(self.layout.packs, self.packs.ids[number]))
                self._open[number] = pack
                if len(self._open) > _OPEN_PACKS:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(number)
            return pack

    def find(self, object_id: ObjectId) -> Locations:
        """Where an object that must exist lies, looking again wherever it could be. DamagedError: nowhere."""
        self._finder.find(object_id)
        return self.packs.locate(as_ids(object_id))

    def has(self, object_id: ObjectId) -> bool:
        """Whether the object is to be had: looks again, and in the trash of a gc, before it says no."""
        try:
            self._finder.find(object_id)
        except DamagedError:
            return False
        return True

    def seek(self, ids: bytes) -> Locations:
        """`locate`, where gc may be moving some of them: those not found are looked for wherever they could
        be, until one is not to be had."""
        places = self.locate(ids)
        missing = places.ids[~places.found]
        if not len(missing) or not all(self.has(one.tobytes()) for one in missing):
            return places
        return self.locate(ids)

    def holds(self, ids: bytes) -> bool:
        """Whether all of these ids are to be had, and what they lean on, in packs that can be opened."""
        places = self.seek(ids)
        if not places.found.all():
            return False
        try:
            for number in np.unique(places.pack).tolist():
                self._pack(number)
        except (FileNotFoundError, DamagedError):
            return False
        leans = places.base_ids[places.based]
        return not len(leans) or self.holds(leans.tobytes())

    def _opened(self, object_id: ObjectId, purpose: str, row: int = -1) -> _Opened:
        """An object, wherever it lies: it opens, or there was another copy that does."""
        for place in self._finder.looks(object_id):
            try:
                return self._opened_at(object_id, place, purpose, row)
            except FileNotFoundError:  # gone since this store looked: moved to another pack, or put aside
                self.refresh()
            except DamagedError as error:
                return self._elsewhere(object_id, self._named(place), purpose, error, row)
        raise absent(object_id)

    def read(self, object_id: ObjectId, purpose: str = "other") -> memoryview:
        """The decoded bytes of an object, verified. DamagedError: it is missing, or damaged where it lies."""
        return self._read(object_id, purpose, 0).data

    def _read(self, object_id: ObjectId, purpose: str, depth: int) -> npt.NDArray[np.uint8]:
        frame = self._opened(object_id, purpose).frame
        try:
            return self._decode(frame, None, depth)
        except DamagedError as error:
            return self._decode_copy(frame, error, depth)

    def _decode_copy(self, frame: Frame, error: DamagedError, depth: int = 0) -> npt.NDArray[np.uint8]:
        """Another copy of a frame that does not decode to what it must; the error, where no copy does."""
        for opened in self._copies(frame.id, frame.place, frame.purpose, frame.row):
            with contextlib.suppress(DamagedError):
                return self._decode(opened.frame, None, depth)
        raise error

    def decode(self, frame: Frame, base_raw: Buffer | None = None) -> npt.NDArray[np.uint8]:
        """The decoded bytes of a frame as uint8[raw_bytes], verified against its id.

        `base_raw` is the decoded base, where the caller has it at hand; else the base is read for the frame's
        purpose. DamagedError names the pack and the offset.
        """
        return self._decode(frame, base_raw, 0)

    def decode_many(
        self, frames: Sequence[Frame], bases: Mapping[ObjectId, Any] | None = None, *, verify: bool = True
    ) -> list[npt.NDArray[np.uint8]]:
        """`decode` of several frames: the results share memory. `bases`: decoded bytes, by id, of blocks that
        they lean on; others are read. `verify` False: for who verifies them otherwise, as a file that has a
        SHA-256, before anybody can see them."""
        known = {} if bases is None else bases
        taken, base_raws = list(frames), []
        for k, frame in enumerate(frames):
            base = frame.header.base
            base_raw = None if base == NO_BASE else known.get(base)
            if base_raw is None and base != NO_BASE:
                taken[k], base_raw = self._with_base(frame, None, 0)
            base_raws.append(base_raw)
        try:
            return decode_frames(taken, base_raws, verify=verify)
        except DamagedError:
            if not verify:
                raise
        return [self._decoded(frame, base_raw) for frame, base_raw in zip(taken, base_raws, strict=True)]

    def _decoded(self, frame: Frame, base_raw: Buffer | None) -> npt.NDArray[np.uint8]:
        """A frame or, where it is damaged, another copy."""
        try:
            return decode_frame(frame, base_raw)
        except DamagedError as error:
            return self._decode_copy(frame, error)

    def _with_base(self, frame: Frame, base_raw: Buffer | None, depth: int) -> tuple[Frame, Buffer | None]:
        """The frame and the bytes that it leans on (None: nothing); another copy of it where these are gone:
        it was read before a gc that encoded it anew, or has outlived its base."""
        if not frame.needs_base:
            return frame, None
        if base_raw is not None:
            return frame, base_raw
        if depth >= _MAX_DEPTH:
            raise DamagedError(f"{frame.where}: deltas lean on each other")
        try:
            return frame, self._read(frame.base, frame.purpose, depth + 1)
        except DamagedError as error:
            again = self._elsewhere(frame.id, frame.place, frame.purpose, error, frame.row).frame
            if again.base == frame.base:
                raise
            return self._with_base(again, None, depth + 1)

    def _decode(self, frame: Frame, base_raw: Buffer | None, depth: int) -> npt.NDArray[np.uint8]:
        return decode_frame(*self._with_base(frame, base_raw, depth))

    def read_record(self, kind: str, object_id: ObjectId) -> memoryview:
        """The bytes of a record. DamagedError: missing, damaged, or of another kind."""
        if record_kind(self._finder.find(object_id).form) != kind:
            raise NotFoundError(f"{short(object_id)} is not a {kind}")
        return self.read(object_id, "record")

    def close(self) -> None:
        """Let go of the open packs."""
        with self._open_lock:
            self._open.clear()
