"""Blocks made ready to be written: hashed, looked up, encoded, checked. A session's part for many threads.

Relies on frame, packset and codecs. Promises: an object is encoded by one thread; a base to lean on is never
delta-coded itself, and pinned before it is looked at; what is encoded decodes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mpstore import codecs
from mpstore.codecs import Format, Level
from mpstore.codecs.segments import Buffer, Bytes, as_bytes
from mpstore.errors import DamagedError
from mpstore.ids import ObjectId, block_id, short
from mpstore.store import frame as frames
from mpstore.store.frame import NO_BASE, FrameHeader
from mpstore.store.layout import pack_id_of
from mpstore.store.packindex import as_ids

if TYPE_CHECKING:
    from mpstore.store.objects import ObjectStore


@dataclass(frozen=True)
class WriterOptions:
    """pack_bytes: a pack is closed when it has grown past this. verify: decode what was encoded before it is
    stored."""

    pack_bytes: int
    level: Level
    verify: bool


class Hint(NamedTuple):
    """What helps to encode a block: its format and, if there is one, a block it resembles.

    `base_raw` is that block's decoded bytes, where they are at hand. A base that is itself delta-coded is
    replaced by the base it leans on (deltas are one deep); one that is not in the store is ignored.
    `base_pack`: the name of a pack where it lies without a base of its own, if that is known.
    """

    form: Format = Format.BYTES
    base: ObjectId | None = None
    base_raw: Buffer | None = None
    base_pack: str | None = None


class Claim:
    """An object this session is going to store: encoded by one thread, written by whoever comes first."""

    __slots__ = ("done", "error", "header", "segments", "written")

    def __init__(self, done: threading.Event | None = None) -> None:
        """`done`: where it is encoded together with others, theirs."""
        self.done = done or threading.Event()
        self.header: FrameHeader | None = None
        self.segments: Sequence[Any] = ()
        self.error: BaseException | None = None
        self.written = False


class Prepared(NamedTuple):
    """A block ready to be appended. `claim` None: the store has it already."""

    id: ObjectId
    raw_bytes: int
    claim: Claim | None

    @property
    def reused(self) -> bool:
        """Whether the store had it before this session."""
        return self.claim is None


class Preparer:
    """`claims`: what this session is going to store, by id, under `lock`. `adopt`: have the session
    lean on an object that is in the store, `hold` on a pack; False: it is not there."""

    def __init__(
        self, store: ObjectStore, adopt: Callable[[ObjectId], bool], hold: Callable[[ObjectId], bool]
    ) -> None:
        self._store = store
        self._options = store.options
        self._adopt = adopt
        self._hold = hold
        self.claims: dict[ObjectId, Claim] = {}
        self.lock = threading.Lock()

    def prepare(self, raw: Buffer, hint: Hint | None = None, own_id: ObjectId | None = None) -> Prepared:
        """Hash a block and, if it is new, encode it and check that it decodes. For any number of threads.

        `raw` must not change before the block has been appended. `own_id`: its id, where it is known.
        """
        hint = hint or Hint()
        data = as_bytes(raw)
        return self.prepare_many([data], [hint], [own_id or block_id(data.data)])[0]

    def prepare_many(
        self,
        raws: Sequence[Bytes],
        hints: Sequence[Hint],
        ids: Sequence[ObjectId],
        form: int | None = None,
    ) -> list[Prepared]:
        """`prepare` of several, given as uint8 arrays. `form`: of them all, as frames have it; None: the
        hints', which are of one format."""
        claims = self._claim(ids)
        fresh = {k: claim for k, (claim, mine) in enumerate(claims) if mine and claim is not None}
        if fresh:
            own = [(raws[k], hints[k], ids[k]) for k in fresh]
            chosen, own_hints, own_ids = map(list, zip(*own, strict=True))
            own_form = int(hints[0].form) if form is None else form
            self._encode(list(fresh.values()), chosen, own_form, own_hints, own_ids)
        return [
            Prepared(own_id, raw.size, claim)
            for own_id, raw, (claim, _) in zip(ids, raws, claims, strict=True)
        ]

    def _claim(self, ids: Sequence[ObjectId]) -> list[tuple[Claim | None, bool]]:
        """Of each (None, False): the store has it; else the claim on it, and whether the caller is to encode.

        Claimed first, looked for second: a block that another thread publishes is in the packs before its
        claim is dropped, so it is seen in one of the two.
        """
        done = threading.Event()  # to make one costs as much as all else here
        mine: dict[int, Claim] = {}
        found: list[Claim | None] = []
        with self.lock:
            for k, own_id in enumerate(ids):
                claim = self.claims.get(own_id)
                if claim is None:
                    mine[k] = claim = self.claims[own_id] = Claim(done)
                found.append(claim)
        try:
            known = self._store.packs.known(as_ids(b"".join(ids[k] for k in mine)))
            for k, there in zip(list(mine), known.tolist(), strict=True):
                if there and self._adopt(ids[k]):
                    self._drop(ids[k], mine.pop(k))
                    found[k] = None
        except BaseException as error:
            self._fail([ids[k] for k in mine], list(mine.values()), error)
            done.set()
            raise
        if not mine:
            done.set()
        return [(claim, k in mine) for k, claim in enumerate(found)]

    def _drop(self, own_id: ObjectId, claim: Claim) -> None:
        """Nothing is to be written for this claim: the store has the block."""
        claim.written = True
        with self.lock:
            self.claims.pop(own_id, None)

    def _fail(self, ids: Sequence[ObjectId], claims: Sequence[Claim], error: BaseException) -> None:
        """Tell whoever waits for these blocks, and let them be claimed anew."""
        for claim in claims:
            claim.error = error
        with self.lock:
            for own_id in ids:
                self.claims.pop(own_id, None)
        _settle(claims)

    def _encode(
        self,
        claims: Sequence[Claim],
        raws: Sequence[Bytes],
        form: int,
        hints: Sequence[Hint],
        ids: Sequence[ObjectId],
    ) -> None:
        try:
            bases = self._bases(ids, hints)
            made = frames.encode_many(ids, raws, form, bases, self._options.level)
            if self._options.verify:
                check(made, raws, [None if base is None else base[1] for base in bases])
            for claim, (header, segments) in zip(claims, made, strict=True):
                claim.header, claim.segments = header, segments
        except BaseException as error:
            self._fail(ids, claims, error)
            raise
        _settle(claims)

    def _bases(self, ids: Sequence[ObjectId], hints: Sequence[Hint]) -> list[tuple[ObjectId, Any] | None]:
        """`_base` of each, with one look into the store for those that can lean on what was hinted."""
        given = [hint for hint in hints if hint.base is not None and hint.base_raw is not None]
        packs = {hint.base_pack for hint in given if hint.base_pack is not None}
        held = {pack for pack in packs if self._hold(pack_id_of(pack))}
        plain = {hint.base for hint in given if hint.base_pack in held}
        plain |= self._plain(
            [hint.base for hint in given if hint.base is not None and hint.base not in plain]
        )
        return [
            (hint.base, hint.base_raw)
            if hint.base is not None and hint.base in plain and hint.base != own_id
            else self._base(own_id, hint)
            for own_id, hint in zip(ids, hints, strict=True)
        ]

    def _plain(self, bases: Sequence[ObjectId]) -> set[ObjectId | None]:
        """Those that are in the store, lean on nothing, and lie in a pack that is pinned."""
        if not bases:
            return set()
        packs = self._store.packs
        places = packs.locate(as_ids(b"".join(bases)))
        good = places.found & ~places.based
        held = {n for n in set(places.pack[good].tolist()) if self._hold(packs.ids[n])}
        return {
            base
            for base, fits, pack in zip(bases, good.tolist(), places.pack.tolist(), strict=True)
            if fits and pack in held
        }

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
        with self.lock:
            claim = self.claims.get(object_id)
        # Only what is written counts, here or in the store: a claim that fails later must not be leant on.
        if claim is not None and claim.written and claim.header is not None:
            return claim.header.base
        if not self._adopt(object_id):
            return None
        place = self._store.packs.place(object_id)
        return None if place is None else place.base

    def _read(self, object_id: ObjectId) -> Any:
        """A base's bytes; None when it is not published yet or cannot be read (then nothing leans on it)."""
        try:
            return self._store.read(object_id, "base") if self._store.contains(object_id) else None
        except DamagedError:
            return None


def _settle(claims: Sequence[Claim]) -> None:
    """Wake whoever waits for any of them: most have one event together."""
    for done in {claim.done for claim in claims}:
        done.set()


def check(
    made: Sequence[tuple[FrameHeader, Sequence[Any]]], raws: Sequence[Bytes], base_raws: Sequence[Any]
) -> None:
    """Decode what was just encoded: a codec's mistake, or the memory's, must not reach the disk."""
    form = frames.codec_form(made[0][0].form)
    blocks = [
        codecs.Block(header.codec, segments, header.raw_bytes, None if header.base == NO_BASE else base_raw)
        for (header, segments), base_raw in zip(made, base_raws, strict=True)
    ]
    if not codecs.hold(form, blocks, raws):
        names = ", ".join(short(header.id) for header, _ in made)
        raise DamagedError(f"object {names}: does not decode to what was encoded")
