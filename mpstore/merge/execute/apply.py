"""Merging blocks: decode, take differences, apply the operator, round, encode.

Relies on the store, convert, words and the operator. Promises: a function of the frames and facts alone;
scratch is one float32 array per expert and thread, kept and used again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.ids import ObjectId, block_id
from mpstore.merge.execute import convert, words
from mpstore.merge.execute.reading import BlockFrames
from mpstore.merge.execute.work import NO_BASE, TensorWork
from mpstore.merge.operators.protocol import Block, Facts
from mpstore.store import Frame, Hint, ObjectStore, ObjectWriter, Prepared

F32: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BaseRaw:
    """The base's block decoded, and what outputs are encoded against: the block itself, or the one that its
    own frame leans on (deltas are one deep)."""

    raw: Bytes
    leans_on: ObjectId
    leans_on_raw: Bytes


@dataclass(frozen=True)
class Raws:
    """One block decoded: the base's, and per expert its bytes or None (not stored, or not read)."""

    base: BaseRaw
    experts: tuple[Bytes | None, ...]


@dataclass(frozen=True)
class Nonfinite:
    """How many NaN or infinite values the base and each expert's delta have in one block."""

    base: int
    experts: tuple[int, ...]

    @property
    def any(self) -> bool:
        return bool(self.base or any(self.experts))


class Arena:
    """A thread's float32 arrays, kept from block to block."""

    _local = threading.local()

    @classmethod
    def take(cls, name: object, elements: int) -> F32:
        """An uninitialised (elements,) array; the same memory for the same name and thread."""
        arrays: dict[object, F32] = cls._local.__dict__.setdefault("arrays", {})
        found = arrays.get(name)
        if found is None or found.size < elements:
            found = arrays[name] = np.empty(elements, np.float32)
        return found[:elements]

    @classmethod
    def release(cls) -> None:
        """Let go of this thread's arrays."""
        cls._local.__dict__.pop("arrays", None)


def decode_base(store: ObjectStore, frames: BlockFrames[Frame]) -> BaseRaw:
    """The base's decoded block."""
    base = frames.base
    leaned = _leaned(store, frames, base, {})
    raw = store.decode(base, leaned)
    return BaseRaw(raw, base.id, raw) if leaned is None else BaseRaw(raw, base.base, leaned)


def decode_bases(store: ObjectStore, frames: Sequence[BlockFrames[Frame]]) -> list[BaseRaw]:
    """`decode_base` of several blocks, at once where their frames lean on nothing."""
    if any(one.base.base != NO_BASE for one in frames):
        return [decode_base(store, one) for one in frames]
    raws = store.decode_many([one.base for one in frames])
    return [BaseRaw(raw, one.base.id, raw) for one, raw in zip(frames, raws, strict=True)]


def decode_experts(store: ObjectStore, frames: BlockFrames[Frame], base: BaseRaw) -> tuple[Bytes | None, ...]:
    """Each expert's decoded block; a delta base that several lean on is decoded once."""
    base_id = frames.base.id
    known: dict[ObjectId, Bytes] = {base_id: base.raw, base.leans_on: base.leans_on_raw}
    wanted = [frame for frame in frames.experts if frame is not None and frame.id != base_id]
    for frame in wanted:
        _leaned(store, frames, frame, known)
    made = iter(store.decode_many(wanted, known))
    found: list[Bytes | None] = []
    for one in frames.experts:
        if one is None:
            found.append(None)
        else:  # a delta checkpoint may hold the very bytes of the base
            found.append(base.raw if one.id == base_id else next(made))
    return tuple(found)


def _leaned(
    store: ObjectStore, frames: BlockFrames[Frame], frame: Frame, known: dict[ObjectId, Bytes]
) -> Bytes | None:
    if frame.base == NO_BASE:
        return None
    raw = known.get(frame.base)
    if raw is None and frame.base in frames.foreign:
        raw = known[frame.base] = store.decode(frames.foreign[frame.base])
    return raw


def decode(store: ObjectStore, frames: Sequence[BlockFrames[Frame]]) -> Iterator[Raws]:
    """Blocks decoded and verified, one after the other."""
    for one, base in zip(frames, decode_bases(store, frames), strict=True):
        yield Raws(base, decode_experts(store, one, base))


def widen_base(work: TensorWork, raw: Bytes, elements: int) -> tuple[F32, int]:
    """The base's block in float32, in this thread's arena, and its non-finite values."""
    base = Arena.take("base", elements)
    return base, convert.widen(raw, work.base.dtype, base)


def deltas(
    work: TensorWork, block: int, base: F32, raws: Sequence[Bytes | None]
) -> tuple[tuple[F32 | None, ...], tuple[int, ...]]:
    """Every expert's delta of a block, in this thread's arena (None: zero), and their non-finite values."""
    found: list[F32 | None] = []
    odd = []
    for place, (expert, raw) in enumerate(zip(work.experts, raws, strict=True)):
        if expert.formed is None and raw is None:
            found.append(None)
            odd.append(0)
            continue
        out = Arena.take(place, base.size)
        if expert.formed is not None:
            odd.append(expert.formed.delta(*work.span(block), out))
        else:
            assert expert.stored is not None
            if expert.kind == "delta":
                odd.append(convert.widen(raw, expert.stored.dtype, out))
            else:
                odd.append(convert.difference(raw, expert.stored.dtype, base, out))
        found.append(out)
    return tuple(found), tuple(odd)


@dataclass(frozen=True)
class Made:
    """A merged block on its way into the store."""

    prepared: Prepared
    nonfinite: Nonfinite


def merge_blocks(
    writer: ObjectWriter,
    work: TensorWork,
    blocks: Sequence[int],
    given: Iterable[Raws],
    facts: Facts,
) -> list[Made]:
    """The operator on some blocks, whose outputs are hashed and encoded together."""
    columns = words.columns(work, facts)
    raws: list[Bytes] = []
    hints: list[Hint] = []
    nonfinite: list[Nonfinite] = []
    for block, decoded in zip(blocks, given, strict=True):
        if columns is None:
            raw, odd = _merge(work, block, decoded, facts)
        else:
            raw, counts = words.merge(work, block, decoded.base.raw, decoded.experts, columns)
            odd = Nonfinite(counts[0], tuple(counts[1:]))
        raws.append(raw)
        hints.append(hint(work, decoded.base))
        nonfinite.append(odd)
    prepared = writer.prepare_many(raws, hints, [block_id(raw.data) for raw in raws])
    return [Made(one, odd) for one, odd in zip(prepared, nonfinite, strict=True)]


def _merge(work: TensorWork, block: int, raws: Raws, facts: Facts) -> tuple[Bytes, Nonfinite]:
    """By way of float32 arrays: any dtype, any operator."""
    start, stop = work.span(block)
    base, odd_base = widen_base(work, raws.base.raw, stop - start)
    found, odd = deltas(work, block, base, raws.experts)
    out = Arena.take("out", stop - start)
    merged = work.operator.apply(Block(start, base, found, out), facts, work.context)
    raw = convert.narrow(merged, base, raws.base.raw if work.same_dtype else None, work.out_dtype)
    return raw, Nonfinite(odd_base, odd)


def hint(work: TensorWork, base: BaseRaw) -> Hint:
    """Encode against the base's block or what it leans on, unless the dtype changes."""
    if not work.same_dtype:
        return Hint(work.out_dtype.form)
    return Hint(work.out_dtype.form, base.leans_on, base.leans_on_raw)
