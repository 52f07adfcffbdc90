"""From frames that were read to the bytes that they hold, each verified against its id.

Relies on codecs and frame. Promises: what comes out hashes to the frame's id, or a DamagedError names the
pack and the offset. Only who has another proof of the bytes may ask to spare it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore import codecs, kernels
from mpstore.codecs import rice_delta
from mpstore.codecs.codes import RICE_DELTA, TIER_DELTA
from mpstore.codecs.segments import Buffer
from mpstore.errors import DamagedError
from mpstore.ids import ObjectId, short
from mpstore.kernels.leaning_numpy import Kind
from mpstore.store.frame import Frame, Piece, codec_form, object_id, record_kind


def decode_frame(frame: Frame, base_raw: Buffer | None) -> npt.NDArray[np.uint8]:
    """Decode and verify; `base_raw` only where the frame leans on one."""
    where, header = frame.where, frame.header
    try:
        raw = codecs.decode(header.codec, codec_form(header.form), frame.segments, header.raw_bytes, base_raw)
    except DamagedError as error:
        raise DamagedError(f"{where}: object {short(frame.id)}: {error.message}") from error
    if object_id(header.form, raw.data) != frame.id:
        raise DamagedError(f"{where}: the content is not that of object {short(frame.id)}")
    return raw


def decode_frames(
    frames: Sequence[Frame], base_raws: Sequence[Any], *, verify: bool = True
) -> list[npt.NDArray[np.uint8]]:
    """`decode_frame` of several at once: one that is damaged is found, and named, one by one. `verify` False:
    what decodes is not hashed."""
    if len({frame.header.form for frame in frames}) != 1:
        return [decode_frame(frame, base_raw) for frame, base_raw in zip(frames, base_raws, strict=True)]
    form = frames[0].header.form
    wanted = [
        codecs.Block(frame.header.codec, frame.segments, frame.header.raw_bytes, base_raw)
        for frame, base_raw in zip(frames, base_raws, strict=True)
    ]
    try:
        raws = codecs.decode_many(codec_form(form), wanted)
    except DamagedError:
        return [decode_frame(frame, base_raw) for frame, base_raw in zip(frames, base_raws, strict=True)]
    if not verify:
        return raws
    return [
        raw if own_id == frame.header.id else decode_frame(frame, base_raw)
        for frame, base_raw, raw, own_id in zip(frames, base_raws, raws, _ids(form, raws), strict=True)
    ]


def _ids(form: int, raws: Sequence[npt.NDArray[np.uint8]]) -> list[ObjectId]:
    """`object_id` of each."""
    if record_kind(form) is not None:
        return [object_id(form, raw.data) for raw in raws]
    found: list[ObjectId] = kernels.pick("blake3").block_ids(raws)
    return found


def leaning_kind(form: int) -> Kind:
    """What frames of a form must be for the kernels that decode several at once."""
    return Kind((RICE_DELTA, TIER_DELTA), form, rice_delta.shape_of(codec_form(form)))


def decode_leaning(
    pieces: Sequence[Piece],
    base: tuple[ObjectId, npt.NDArray[np.uint8]],
    form: int,
    *,
    verified: bool = False,
) -> list[npt.NDArray[np.uint8] | None]:
    """Blocks in Rice codes or tiers that lean on `base` (id, bytes), of its form: most of what a merge reads.

    None for a piece that is not of that kind, or not whole: then the ways above decode it, or say what is
    wrong. `verified`: these very pieces have been decoded and found to be right before.
    """
    kind, size = leaning_kind(form), base[1].size
    if not pieces or not size or size % kind.shape.dtype.itemsize:
        return [None] * len(pieces)
    out = np.empty((len(pieces), size), np.uint8)
    ids = b"".join([piece.id for piece in pieces])
    frames = [piece.data for piece in pieces]
    filled = kernels.pick("leaning").decode(frames, ids, base, kind, not verified, out)
    return [row if whole else None for row, whole in zip(out, filled, strict=True)]
