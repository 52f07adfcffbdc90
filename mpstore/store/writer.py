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

from mpstore import files
from mpstore.codecs.segments import Buffer, Bytes, as_bytes
from mpstore.errors import ConflictError, DamagedError, MpError, StorageError
from mpstore.ids import ObjectId, record_id, short
from mpstore.store import frame as frames
from mpstore.store import packindex
from mpstore.store.frame import FrameHeader
from mpstore.store.layout import index_path, pack_path
from mpstore.store.pack import BLOCKS, RECORDS, PackWriter
from mpstore.store.packindex import PackInfo
from mpstore.store.preparing import Claim, Hint, Prepared, Preparer, check
from mpstore.store.sessions import Session
from mpstore.store.trash import restore_packs

if TYPE_CHECKING:
    from mpstore.store.objects import ObjectStore


@dataclass(frozen=True)
class WriteSummary:
    """What a session did. raw_bytes: all blocks appended, new or not; stored_bytes: the packs published."""

    new_blocks: int
    reused_blocks: int
    raw_bytes: int
    stored_bytes: int
    new_records: int


class ObjectWriter:
    """A session. Leave the context only after the ref has moved: until then it protects what was written."""

    def __init__(self, store: ObjectStore, label: str) -> None:
        self._store = store
        self._layout = store.layout
        self._options = store.options
        self._layout.complete()
        self._session = Session(self._layout.sessions, label)
        self._held: set[ObjectId] = set()  # pinned, and seen to be there after that
        self._preparer = Preparer(store, self.adopt, self._pin)
        self._write_lock = threading.RLock()
        self._open: dict[int, PackWriter] = {}
        self._failed: BaseException | None = None
        self._new_blocks = self._reused_blocks = self._new_records = 0
        self._raw_bytes = self._stored_bytes = 0

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._failed is None:
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
            # A delta that nothing needed may have outlived its base: then it is as good as not there.
            if self._pin(packs.ids[place.pack]) and (not place.based or self._adopt_base(place.base)):
                return True
            packs.refresh()
        return False

    def _adopt_base(self, base: ObjectId) -> bool:
        """Lean on a base, which must lean on nothing itself: deltas are one deep, whatever a pack says."""
        place = self._store.packs.place(base)
        return place is not None and not place.based and self._pin(self._store.packs.ids[place.pack])

    def hold_pack(self, pack_id: ObjectId) -> bool:
        """Lean on all that lies in a pack (not on the bases of its deltas). False: it has gone."""
        return self._pin(pack_id)

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

    def prepare(self, raw: Buffer, hint: Hint | None = None, own_id: ObjectId | None = None) -> Prepared:
        """Hash a block and, if it is new, encode it and check that it decodes. For any number of threads.

        `raw` must not change before the block has been appended. `own_id`: its id, where it is known.
        """
        return self._preparer.prepare(raw, hint, own_id)

    def prepare_many(
        self, raws: Sequence[Bytes], hints: Sequence[Hint], ids: Sequence[ObjectId]
    ) -> list[Prepared]:
        """`prepare` of several blocks, given as uint8 arrays, all hints of one format."""
        return self._preparer.prepare_many(raws, hints, ids)

    def append(self, prepared: Prepared) -> ObjectId:
        """Write a prepared block behind the ones before it. One thread, in tensor order."""
        self.append_many([prepared])
        return prepared.id

    def append_many(self, blocks: Sequence[Prepared]) -> int:
        """`append` of several, in this order; how many nobody had written before."""
        whole, error = _encoded(blocks)
        with self._write_lock:
            new = self._write_new(BLOCKS, whole)
            self._raw_bytes += sum([one.raw_bytes for one in whole])
            self._new_blocks += new
            self._reused_blocks += len(whole) - new
        if error is not None:
            raise error
        return new

    def put(self, raw: Buffer, hint: Hint | None = None) -> ObjectId:
        """Prepare and append."""
        return self.append(self.prepare(raw, hint))

    def put_record(self, kind: str, data: Buffer) -> ObjectId:
        """Store a record; it is published after the blocks appended before it."""
        return self.put_records(kind, [data])[0]

    def put_records(self, kind: str, datas: Sequence[Buffer]) -> list[ObjectId]:
        """`put_record` of several of a kind."""
        if not datas:
            return []
        ids = [record_id(kind, data) for data in datas]
        raws, hints = [as_bytes(data) for data in datas], [Hint()] * len(datas)
        with self._write_lock:
            made = self._preparer.prepare_many(raws, hints, ids, frames.record_form(kind))
            self._new_records += self._write_new(RECORDS, made)
        return ids

    def copy(self, header: FrameHeader, segments: Sequence[Any]) -> None:
        """Store a frame once more, as it is, though the store has it: gc empties packs so. Once a session."""
        with self._write_lock:
            claim = self._preparer.claims.get(header.id)
            if claim is None:
                claim = self._preparer.claims[header.id] = Claim()
                claim.header, claim.segments = header, segments
                claim.done.set()
                self._write(BLOCKS if header.kind is None else RECORDS, [claim])

    def store_anew(self, own_id: ObjectId, raw: Buffer, form: int) -> None:
        """Encode and store an object although a copy, which may be damaged, is there; `form` as in frames.

        DamagedError: `raw` is not what the id stands for.
        """
        if frames.object_id(form, raw) != own_id:
            raise DamagedError(f"object {short(own_id)}: a copy of it is not the same")
        header, segments = frames.encode(own_id, raw, form, None, self._options.level)
        check([(header, segments)], [as_bytes(raw)], [None])
        self.copy(header, segments)

    # Packs

    def _write_new(self, kind: int, prepared: Sequence[Prepared]) -> int:
        """Append those that nobody has written, each once; how many."""
        claims = {one.id: one.claim for one in prepared if one.claim is not None and not one.claim.written}
        if claims:
            self._write(kind, list(claims.values()))
        return len(claims)

    def _write(self, kind: int, claims: Sequence[Claim]) -> None:
        """Append what is encoded to packs, as many as it takes."""
        self._check_whole()
        wanted = []
        for claim in claims:
            assert claim.header is not None
            wanted.append((claim.header, claim.segments))
        done = 0
        while done < len(wanted):
            pack = self._open.get(kind)
            if pack is None:
                pack = self._open[kind] = PackWriter(self._layout.tmp, kind)
            end = done + pack.append_many(wanted[done:], self._options.pack_bytes)
            for claim in claims[done:end]:
                claim.written, claim.segments = True, ()
            done = end
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
        except BaseException as error:
            self._failed = error  # nothing that names these objects may be published any more
            raise
        finally:
            pack.discard()
        self._stored_bytes += pack.size
        self._store.packs.add(table)
        with self._preparer.lock:
            for entry in pack.entries:
                self._preparer.claims.pop(entry.header.id, None)

    def _check_whole(self) -> None:
        """StorageError, with what was wrong: a pack could not be published. Of several threads another one
        than the one that met it may be the first to be heard."""
        if self._failed is not None:
            reason = self._failed.message if isinstance(self._failed, MpError) else "it was interrupted"
            raise StorageError(f"an earlier write of this session failed: {reason}") from self._failed

    def flush(self) -> None:
        """Publish what was appended so far: blocks first, then records."""
        with self._write_lock:
            self._check_whole()
            self._publish(BLOCKS)
            self._publish(RECORDS)

    def finish(self) -> WriteSummary:
        """Publish everything and say what was done. The session stays registered until it is left.

        ConflictError: it was declared dead meanwhile, so that what it leans on may be gone.
        """
        self.flush()
        if not self._session.registered():
            raise ConflictError(
                "this command was declared dead by `mp gc --drop-sessions`, and what it leans on may be gone",
                hint="run it again; what it stored is found again as far as it is still there",
            )
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


def _encoded(blocks: Sequence[Prepared]) -> tuple[Sequence[Prepared], BaseException | None]:
    """Those that are encoded, once that is done: up to the first where it failed, and its error."""
    for place, prepared in enumerate(blocks):
        claim = prepared.claim
        if claim is not None:
            if not claim.done.is_set():
                claim.done.wait()
            if claim.error is not None:
                return blocks[:place], claim.error
    return blocks, None
