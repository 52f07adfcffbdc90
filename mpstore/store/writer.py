"""Writing objects: a registered session that hashes, looks up, encodes and packs.

Relies on pack, sessions, packset and codecs. Promises: an object is stored once; what is leant on is pinned
before it is looked at; blocks are durable before the records that name them; what was made before an error
is published, so that the next try finds it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mpstore import codecs, files
from mpstore.codecs import Format, Level
from mpstore.codecs.segments import Bytes, as_bytes
from mpstore.errors import DamagedError, MpError, StorageError
from mpstore.ids import ObjectId, block_id, record_id, short
from mpstore.store import frame as frames
from mpstore.store import packindex
from mpstore.store.frame import NO_BASE, FrameHeader
from mpstore.store.pack import BLOCKS, RECORDS, PackWriter
from mpstore.store.packindex import PackInfo
from mpstore.store.packset import index_path, pack_path
from mpstore.store.sessions import Session
from mpstore.store.trash import restore_packs

if TYPE_CHECKING:
    from mpstore.store.objects import ObjectStore


@dataclass(frozen=True)
class WriterOptions:
    """pack_bytes: a pack is closed when it has grown past this. verify: decode what was encoded before it is
    stored."""

    pack_bytes: int
    level: Level
    verify: bool


@dataclass(frozen=True)
class Hint:
    """What helps to encode a block: its format and, if there is one, a block it resembles.

    `base_raw` is that block's decoded bytes, where they are at hand. A base that is itself delta-coded is
    replaced by the base it leans on (deltas are one deep); one that is not in the store is ignored.
    """

    form: Format = Format.BYTES
    base: ObjectId | None = None
    base_raw: Any = None


@dataclass(frozen=True)
class WriteSummary:
    """What a session did. raw_bytes: all blocks appended, new or not; stored_bytes: the packs published."""

    new_blocks: int
    reused_blocks: int
    raw_bytes: int
    stored_bytes: int
    new_records: int


class _Claim:
    """An object this session is going to store: encoded by one thread, written by whoever comes first."""

    __slots__ = ("done", "error", "header", "segments", "written")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.header: FrameHeader | None = None
        self.segments: Sequence[Any] = ()
        self.error: BaseException | None = None
        self.written = False


@dataclass(frozen=True)
class Prepared:
    """A block ready to be appended. `claim` None: the store has it already."""

    id: ObjectId
    raw_bytes: int
    claim: _Claim | None

    @property
    def reused(self) -> bool:
        """Whether the store had it before this session."""
        return self.claim is None


class ObjectWriter:
    """A session. Leave the context only after the ref has moved: until then it protects what was written."""

    def __init__(self, store: ObjectStore, label: str) -> None:
        self._store = store
        self._layout = store.layout
        self._options = store.options
        self._layout.create()
        self._session = Session(self._layout.sessions, label)
        self._held: set[ObjectId] = set()  # pinned, and seen to be there after that
        self._claims: dict[ObjectId, _Claim] = {}
        self._claims_lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._open: dict[int, PackWriter] = {}
        self._failed = False
        self._new_blocks = self._reused_blocks = self._new_records = 0
        self._raw_bytes = self._stored_bytes = 0

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self._failed:
            # Also after an error: what was made so far is found again by the next try.
            with contextlib.suppress(MpError) if error is not None else contextlib.nullcontext():
                self.flush()
        self.close()

    # Leaning on what exists

    def adopt(self, object_id: ObjectId) -> bool:
        """Lean on an existing object: its pack is pinned, and found to be there after that. False: not there.

        Adopting a record does not protect what it names; `pin_commit` does.
        """
        packs = self._store.packs
        for _ in range(3):
            place = packs.place(object_id)
            if place is None:
                return False
            if self._pin(packs.ids[place.pack]):
                return True
            packs.refresh()
        return False

    def _pin(self, pack_id: ObjectId) -> bool:
        """Pin first, look second. False: the pack has gone."""
        if pack_id in self._held:
            return True
        self._session.pin_pack(pack_id)
        if os.path.exists(pack_path(self._layout.packs, pack_id)) or restore_packs(self._layout, [pack_id]):
            self._held.add(pack_id)
            return True
        return False

    def pin_commit(self, commit: ObjectId) -> None:
        """Have gc keep what the commit reaches while this session lives.

        What is located after this call stays; what was located before may have gone, so locate again.
        """
        self._session.pin_commit(commit)
        self._store.refresh()

    # Blocks

    def prepare(self, raw: Any, hint: Hint | None = None, own_id: ObjectId | None = None) -> Prepared:
        """Hash a block and, if it is new, encode it and check that it decodes. For any number of threads.

        `raw` must not change before the block has been appended. `own_id`: its id, where it is known.
        """
        hint = hint or Hint()
        data = as_bytes(raw)
        own_id = own_id or block_id(data.data)
        claim, mine = self._claim(own_id)
        if mine and claim is not None:
            self._encode(claim, own_id, data, hint)
        return Prepared(own_id, data.size, claim)

    def _claim(self, own_id: ObjectId) -> tuple[_Claim | None, bool]:
        """(None, False): the store has it; else the claim on it, and whether the caller is to encode it."""
        with self._claims_lock:
            claim = self._claims.get(own_id)
        if claim is not None:
            return claim, False
        if self.adopt(own_id):
            return None, False
        with self._claims_lock:
            claim = self._claims.get(own_id)
            if claim is None:
                self._claims[own_id] = claim = _Claim()
                return claim, True
            return claim, False

    def _encode(self, claim: _Claim, own_id: ObjectId, raw: Bytes, hint: Hint) -> None:
        try:
            base = self._base(own_id, hint)
            header, segments = frames.encode(own_id, raw, int(hint.form), base, self._options.level)
            if self._options.verify:
                _check(header, segments, raw, None if header.base == NO_BASE or base is None else base[1])
            claim.header, claim.segments = header, segments
        except BaseException as error:
            claim.error = error
            with self._claims_lock:
                self._claims.pop(own_id, None)
            raise
        finally:
            claim.done.set()

    def _base(self, own_id: ObjectId, hint: Hint) -> tuple[ObjectId, Any] | None:
        """The base to lean on with its bytes: never delta-coded itself, pinned, or None."""
        if hint.base is None or hint.base == own_id:
            return None
        leans_on = self._leans_on(hint.base)
        if leans_on is None:
            return None
        if leans_on == NO_BASE:
            raw = hint.base_raw if hint.base_raw is not None else self._read(hint.base)
            return None if raw is None else (hint.base, raw)
        if leans_on == own_id or self._leans_on(leans_on) != NO_BASE:
            return None
        raw = self._read(leans_on)
        return None if raw is None else (leans_on, raw)

    def _leans_on(self, object_id: ObjectId) -> ObjectId | None:
        """The base of a block here or in the store (then pinned); NO_BASE: none; None: no such block."""
        with self._claims_lock:
            claim = self._claims.get(object_id)
        if claim is not None:
            # Only what is written counts: a claim that fails later must not be leant on.
            return claim.header.base if claim.written and claim.header is not None else None
        if not self.adopt(object_id):
            return None
        place = self._store.packs.place(object_id)
        return None if place is None else place.base

    def _read(self, object_id: ObjectId) -> Any:
        """A base's bytes; None when it is not published yet or cannot be read (then nothing leans on it)."""
        try:
            return self._store.read(object_id, "base") if self._store.contains(object_id) else None
        except DamagedError:
            return None

    def append(self, prepared: Prepared) -> ObjectId:
        """Write a prepared block behind the ones before it. One thread, in tensor order."""
        claim = prepared.claim
        if claim is not None:
            claim.done.wait()
            if claim.error is not None:
                raise claim.error
        with self._write_lock:
            self._raw_bytes += prepared.raw_bytes
            if claim is None or claim.written:
                self._reused_blocks += 1
                return prepared.id
            self._write(BLOCKS, claim)
            self._new_blocks += 1
        return prepared.id

    def put(self, raw: Any, hint: Hint | None = None) -> ObjectId:
        """Prepare and append."""
        return self.append(self.prepare(raw, hint))

    def put_record(self, kind: str, data: Any) -> ObjectId:
        """Store a record; it is published after the blocks appended before it."""
        own_id = record_id(kind, data)
        with self._write_lock:
            claim, mine = self._claim(own_id)
            if not mine or claim is None:
                return own_id
            try:
                header, segments = frames.encode(
                    own_id, data, frames.record_form(kind), None, self._options.level
                )
                _check(header, segments, as_bytes(data), None)
            except BaseException:
                del self._claims[own_id]
                raise
            claim.header, claim.segments = header, segments
            claim.done.set()
            self._write(RECORDS, claim)
            self._new_records += 1
        return own_id

    def copy(self, header: FrameHeader, segments: Sequence[Any]) -> None:
        """Store a frame once more, as it is, though the store has it: gc empties packs so. Once a session."""
        with self._write_lock:
            claim = self._claims.get(header.id)
            if claim is None:
                claim = self._claims[header.id] = _Claim()
                claim.header, claim.segments = header, segments
                claim.done.set()
                self._write(BLOCKS if header.kind is None else RECORDS, claim)

    def store_anew(self, own_id: ObjectId, raw: Any, form: int) -> None:
        """Encode and store an object although a copy, which may be damaged, is there; `form` as in frames.

        DamagedError: `raw` is not what the id stands for.
        """
        if frames.object_id(form, raw) != own_id:
            raise DamagedError(f"object {short(own_id)}: a copy of it is not the same")
        header, segments = frames.encode(own_id, raw, form, None, self._options.level)
        _check(header, segments, as_bytes(raw), None)
        self.copy(header, segments)

    # Packs

    def _write(self, kind: int, claim: _Claim) -> None:
        if self._failed:
            raise StorageError("an earlier write of this session failed")
        assert claim.header is not None
        pack = self._open.get(kind)
        if pack is None:
            pack = self._open[kind] = PackWriter(self._layout.tmp, kind)
        pack.append(claim.header, claim.segments)
        claim.written, claim.segments = True, ()
        if pack.size >= self._options.pack_bytes:
            self._publish(BLOCKS)  # before any record that may name them
            if kind == RECORDS:
                self._publish(RECORDS)

    def _publish(self, kind: int) -> None:
        """Pack, then index, each durable before the next has a name."""
        pack = self._open.pop(kind, None)
        if pack is None:
            return
        try:
            pack_id = pack.seal()
            self._session.pin_pack(pack_id)
            pack.publish(self._layout.packs, pack_id)
            table = packindex.build(PackInfo(pack_id, pack.size, kind), pack.entries)
            path = index_path(self._layout.packs, pack_id)
            files.write_whole(path, packindex.to_bytes(table), self._layout.tmp)
        except BaseException:
            self._failed = True  # nothing that names these objects may be published any more
            raise
        finally:
            pack.discard()
        self._stored_bytes += pack.size
        self._store.packs.add(table)
        with self._claims_lock:
            for entry in pack.entries:
                self._claims.pop(entry.header.id, None)

    def flush(self) -> None:
        """Publish what was appended so far: blocks first, then records."""
        with self._write_lock:
            if self._failed:
                raise StorageError("an earlier write of this session failed")
            self._publish(BLOCKS)
            self._publish(RECORDS)

    def finish(self) -> WriteSummary:
        """Publish everything and say what was done. The session stays registered until it is left."""
        self.flush()
        return WriteSummary(
            self._new_blocks, self._reused_blocks, self._raw_bytes, self._stored_bytes, self._new_records
        )

    def close(self) -> None:
        """Unregister. Packs still open are thrown away."""
        for pack in self._open.values():
            pack.discard()
        self._open.clear()
        with contextlib.suppress(StorageError):  # a session left behind is swept by gc
            self._session.close()
        self._store.packs.save_cache()


def _check(header: FrameHeader, segments: Sequence[Any], raw: Bytes, base_raw: Any) -> None:
    """Decode what was just encoded: a codec's mistake, or the memory's, must not reach the disk."""
    form = frames.codec_form(header.form)
    decoded = codecs.decode(header.codec, form, segments, header.raw_bytes, base_raw)
    if not np.array_equal(decoded, raw):
        raise DamagedError(f"object {short(header.id)} does not decode to what was encoded")
