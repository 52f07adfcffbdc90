"""The base's blocks decoded, and other blocks that frames lean on.

Relies on the store and reading. Promises: each is verified; what is leant on is decoded once a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.ids import ObjectId
from mpstore.merge.execute.reading import BlockPieces
from mpstore.store import NO_BASE, Frame, ObjectStore, Piece

Bytes: TypeAlias = npt.NDArray[np.uint8]


class BaseRaw(NamedTuple):
    """The base's block decoded, and what outputs are encoded against: the block itself, or the one that its
    own frame leans on (deltas are one deep). `pack`: the name of the pack where the former was read."""

    form: int
    id: ObjectId
    raw: Bytes
    leans_on: ObjectId
    leans_on_raw: Bytes
    pack: str | None


def _decode_base(store: ObjectStore, pieces: BlockPieces[Piece]) -> BaseRaw:
    """The base's decoded block."""
    base = store.frame(pieces.base)
    below = leaned(store, pieces, base, {})
    raw = store.decode(base, below)
    own = base.header.form, base.id, raw
    if below is None:
        return BaseRaw(*own, base.id, raw, base.pack)
    return BaseRaw(*own, base.base, below, None)


def decode_bases(store: ObjectStore, pieces: Sequence[BlockPieces[Piece]]) -> list[BaseRaw]:
    """The base's block of each, at once where their frames lean on nothing."""
    frames = [store.frame(one.base) for one in pieces]
    if any(frame.needs_base for frame in frames):
        return [_decode_base(store, one) for one in pieces]
    raws = store.decode_many(frames)
    return [
        BaseRaw(frame.header.form, frame.id, raw, frame.id, raw, frame.pack)
        for frame, raw in zip(frames, raws, strict=True)
    ]


def leaned(
    store: ObjectStore, pieces: BlockPieces[Piece], frame: Frame, known: dict[ObjectId, Bytes]
) -> Bytes | None:
    """What a frame leans on: of `known`, where it is put if it is decoded; None: nothing, or not read."""
    if frame.base == NO_BASE:
        return None
    raw = known.get(frame.base)
    if raw is None and frame.base in pieces.foreign:
        raw = known[frame.base] = store.decode(store.frame(pieces.foreign[frame.base]))
    return raw
