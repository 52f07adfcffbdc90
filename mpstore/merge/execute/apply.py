"""Merging blocks: decode, take differences, apply the operator, round, encode.

Relies on the store, convert, words and the operator. Promises: a function of what was read and facts alone;
scratch is one float32 array per expert and thread, kept and used again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.ids import ObjectId, block_id
from mpstore.merge.execute import convert, words
from mpstore.merge.execute.bases import BaseRaw, decode_bases, leaned
from mpstore.merge.execute.reading import BlockPieces
from mpstore.merge.execute.work import TensorWork
from mpstore.merge.operators.protocol import Block, Facts
from mpstore.store import Hint, ObjectStore, ObjectWriter, Piece, Prepared, decode_leaning

F32: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]


class Raws(NamedTuple):
    """One block decoded: the base's, and per expert its bytes or None (not stored, or not read)."""

    base: BaseRaw
    experts: tuple[Bytes | None, ...]


class Nonfinite(NamedTuple):
    """How many NaN or infinite values the base and each expert's delta have in one block."""

    base: int
    experts: tuple[int, ...]

    @classmethod
    def of(cls, counts: Sequence[int]) -> Nonfinite:
        """From the base's count and the experts'."""
        return cls(counts[0], tuple(counts[1:]))

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


def decode_experts(
    store: ObjectStore, pieces: BlockPieces[Piece], base: BaseRaw, verified: bool = False
) -> tuple[Bytes | None, ...]:
    """Each expert's decoded block; a delta base that several lean on is decoded once."""
    wanted = [piece for piece in pieces.experts if piece is not None and piece.id != base.id]
    leant = base.leans_on, base.leans_on_raw
    made = decode_leaning(wanted, leant, base.form, verified=verified)
    odd = [k for k, raw in enumerate(made) if raw is None]
    if odd:
        found = _decode_odd(store, pieces, [wanted[k] for k in odd], base)
        for k, raw in zip(odd, found, strict=True):
            made[k] = raw
    rows = iter(made)
    return tuple(
        # A delta checkpoint may hold the very bytes of the base.
        [
            None if piece is None else base.raw if piece.id == base.id else next(rows)
            for piece in pieces.experts
        ]
    )


def _decode_odd(
    store: ObjectStore, pieces: BlockPieces[Piece], wanted: Sequence[Piece], base: BaseRaw
) -> list[Bytes]:
    """Blocks that are not in Rice codes against the base's, or that are damaged."""
    known: dict[ObjectId, Bytes] = {base.id: base.raw, base.leans_on: base.leans_on_raw}
    frames = [store.frame(piece) for piece in wanted]
    for frame in frames:
        leaned(store, pieces, frame, known)
    return store.decode_many(frames, known)


def decode(
    store: ObjectStore, pieces: Sequence[BlockPieces[Piece]], verified: bool = False
) -> Iterator[Raws]:
    """Blocks decoded, one after the other, and verified, unless these very pieces were `verified` before."""
    for one, base in zip(pieces, decode_bases(store, pieces), strict=True):
        yield Raws(base, decode_experts(store, one, base, verified))


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


class Made(NamedTuple):
    """A merged block on its way into the store."""

    prepared: Prepared
    nonfinite: Nonfinite


def merge_pieces(
    store: ObjectStore,
    writer: ObjectWriter,
    work: TensorWork,
    blocks: Sequence[int],
    pieces: Sequence[BlockPieces[Piece]],
    facts: Facts,
    verified: bool = False,
) -> list[Made]:
    """The operator on some blocks as they were read: at once where that can be, else step by step."""
    columns = words.columns(work, facts)
    bases = decode_bases(store, pieces)
    quick = {} if columns is None else words.merge_pieces(work, blocks, pieces, bases, columns, verified)
    merged = []
    for k, (block, one, base) in enumerate(zip(blocks, pieces, bases, strict=True)):
        if k in quick:
            made = quick[k]
            merged.append(Merged(made.raw, made.id, hint(work, base), Nonfinite.of(made.nonfinite)))
        else:
            raws = Raws(base, decode_experts(store, one, base, verified))
            merged.append(_merged(work, block, raws, facts, columns))
    return _made(writer, merged)


def merge_blocks(
    writer: ObjectWriter,
    work: TensorWork,
    blocks: Sequence[int],
    given: Iterable[Raws],
    facts: Facts,
) -> list[Made]:
    """The operator on some decoded blocks, whose outputs are encoded together."""
    columns = words.columns(work, facts)
    return _made(
        writer,
        [_merged(work, block, raws, facts, columns) for block, raws in zip(blocks, given, strict=True)],
    )


class Merged(NamedTuple):
    """A merged block, and what helps to encode it."""

    raw: Bytes
    id: ObjectId
    hint: Hint
    nonfinite: Nonfinite


def _merged(work: TensorWork, block: int, raws: Raws, facts: Facts, columns: words.Columns | None) -> Merged:
    if columns is None:
        raw, odd = _merge(work, block, raws, facts)
    else:
        raw, counts = words.merge(work, block, raws.base.raw, raws.experts, columns)
        odd = Nonfinite.of(counts)
    return Merged(raw, block_id(raw.data), hint(work, raws.base), odd)


def _made(writer: ObjectWriter, merged: Sequence[Merged]) -> list[Made]:
    prepared = writer.prepare_many(
        [one.raw for one in merged], [one.hint for one in merged], [one.id for one in merged]
    )
    return [Made(ready, one.nonfinite) for ready, one in zip(prepared, merged, strict=True)]


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
    return Hint(work.out_dtype.form, base.leans_on, base.leans_on_raw, base.pack)
