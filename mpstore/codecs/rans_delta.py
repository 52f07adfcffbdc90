"""`rans-delta`: zigzagged distance to the base in units of the last place, by rANS given the base's exponent.

Relies on kernels and rans_stream. Promises: exact round trip for any words. Runs of chunks in which nothing
changed take one bit; the contexts are the base's exponents, the rare ones at both ends taken together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.codecs import rans_stream
from mpstore.codecs.formats import Format, Layout
from mpstore.codecs.segments import Buffer, Bytes, as_bytes, expect, join
from mpstore.errors import DamagedError
from mpstore.kernels.codec_batch_numpy import LONGEST_RUN, DeltaShape
from mpstore.kernels.codec_rans_numpy import CHUNK
from mpstore.kernels.planes_numpy import WORD

_HEADER: Final = struct.Struct(
    "<BBHBH"
)  # lanes, key shift, lowest key, contexts - 1, chunks a map bit (0: no map)
_KEYS: Final = 32  # octaves of the base's magnitude that are told apart, counted from the largest


@dataclass(frozen=True)
class _Keys:
    """How a base word gives its context: (word & mask) >> shift."""

    mask: Any
    shift: int

    @classmethod
    def of(cls, layout: Layout) -> _Keys:
        kind = WORD[layout.word_bytes].type
        if not layout.sign_magnitude:
            return cls(kind(0), 0)
        return cls(kind((1 << (8 * layout.word_bytes - 1)) - 1), layout.mantissa_bits)


def _symbols(layout: Layout) -> int:
    """Tokens that distances of this width can have."""
    return 16 + 2 * (8 * layout.word_bytes - 4)


def encode(raw: Bytes, form: Format, base: Bytes) -> tuple[Buffer, ...] | None:
    """The one segment of a block against a base of its size, or None when that would not be smaller."""
    layout = form.layout
    keys = _Keys.of(layout)
    words = raw.view(WORD[layout.word_bytes])
    reference = base.view(words.dtype)
    loops = rans_stream.kernel(words.size)
    distance = np.empty_like(words)
    coded = np.empty(-(-words.size // CHUNK), np.uint8)
    loops.distances(words, reference, layout.sign_magnitude, distance, coded)
    run, bitmap = _change_map(coded, loops)
    tokens, rows = np.empty(words.size, np.uint8), np.empty(words.size, np.uint8)
    counts = np.zeros((_KEYS if keys.mask else 1, _symbols(layout)), np.uint32)
    largest = int((reference & keys.mask).max()) >> keys.shift
    lowest = max(0, largest - counts.shape[0] + 1)
    loops.count_tokens(distance, reference, keys.mask, keys.shift, lowest, coded, tokens, rows, counts)
    kept = np.empty(counts.shape, np.int64)
    low, contexts = loops.plan_contexts(counts, kept)
    tables, frequency = rans_stream.tables_of(kept[:contexts], loops)
    lanes = rans_stream.lanes_for(words.size)
    space = np.empty(raw.size // 2 + 2048, np.uint16)
    start = loops.encode_tokens(distance, tokens, rows, coded, low, frequency, lanes, space)
    if start < 0:
        return None
    head = _HEADER.pack(lanes, keys.shift, lowest + low, contexts - 1, run)
    return (join((head, bitmap, tables, space[start:])),)


def _change_map(coded: npt.NDArray[np.uint8], loops: Any) -> tuple[int, Bytes]:
    """One bit for each run of chunks: whether it holds a change. The run is the longest that fits every
    change of state, so rows of a matrix that were not touched take a bit each. (0, nothing): all changed."""
    run = int(loops.change_run(coded))
    run = run if run <= LONGEST_RUN else 1
    return run, np.packbits(coded[::run], bitorder="little") if run else np.empty(0, np.uint8)


def _read_map(data: Bytes, chunks: int, run: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Which chunks are coded, and where the tables begin."""
    if not run:
        return np.ones(chunks, np.uint8), _HEADER.size
    bits = -(-chunks // run)
    packed = data[_HEADER.size : _HEADER.size + (bits + 7) // 8]
    if packed.size * 8 < bits:
        raise DamagedError("rans-delta block ends inside its map of changes")
    coded = np.repeat(np.unpackbits(packed, bitorder="little")[:bits], run)[:chunks]
    return coded, _HEADER.size + packed.size


def _shape(form: Format) -> DeltaShape:
    layout, keys = form.layout, _Keys.of(form.layout)
    rows = _KEYS if keys.mask else 1
    kind = np.dtype(WORD[layout.word_bytes])
    return DeltaShape(kind, layout.sign_magnitude, int(keys.mask), keys.shift, rows, _symbols(layout))


def encode_many(
    raws: Sequence[Bytes], form: Format, bases: Sequence[Bytes]
) -> list[tuple[Buffer, ...] | None]:
    """`encode` of several blocks, each of at least one word, at once where there are kernels for that."""
    loops = kernels.pick("codec_batch", sum(raw.size for raw in raws) // form.layout.word_bytes)
    made: list[tuple[Buffer, ...] | None] = []
    for raw, base, segment in zip(raws, bases, loops.encode_deltas(raws, bases, _shape(form)), strict=True):
        made.append((segment,) if segment is not None else encode(raw, form, base))
    return made


def decode_into(
    form: Format, blocks: Sequence[tuple[Sequence[Buffer], Bytes]], outs: Sequence[Bytes]
) -> None:
    """`decode` of several (segments, base) into `outs`, each of at least one byte, at once where there are
    kernels for that."""
    word_bytes = form.layout.word_bytes
    sound = [
        k
        for k, ((segments, base), out) in enumerate(zip(blocks, outs, strict=True))
        if len(segments) == 1 and base.size == out.size and out.size % word_bytes == 0
    ]
    whole: set[int] = set()
    if sound:
        loops = kernels.pick("codec_batch", sum(outs[k].size for k in sound) // word_bytes)
        first = [as_bytes(blocks[k][0][0]) for k in sound]
        done = loops.decode_deltas(
            first, [blocks[k][1] for k in sound], [outs[k] for k in sound], _shape(form)
        )
        whole = {k for k, well in zip(sound, done, strict=True) if well}
    for k, ((segments, base), out) in enumerate(zip(blocks, outs, strict=True)):
        if k not in whole:
            out[:] = decode(form, segments, out.size, base)


def decode(form: Format, segments: Sequence[Buffer], raw_bytes: int, base: Bytes) -> Bytes:
    """Inverse of `encode`."""
    layout = form.layout
    expect(segments, 1)
    data = as_bytes(segments[0])
    if (
        raw_bytes % layout.word_bytes
        or base.size != raw_bytes
        or data.size < _HEADER.size
        or data.size > raw_bytes
    ):
        raise DamagedError(f"{data.size} bytes cannot be a rans-delta block of {raw_bytes} {form.name} bytes")
    keys = _Keys.of(layout)
    out = np.empty(raw_bytes // layout.word_bytes, WORD[layout.word_bytes])
    lanes, shift, lowest, contexts, run = _HEADER.unpack_from(data.data)
    if shift >= 8 * layout.word_bytes or lowest + contexts > int(keys.mask) >> shift:
        raise DamagedError("rans-delta block with impossible contexts")
    coded, at = _read_map(data, -(-out.size // CHUNK), run)
    loops = rans_stream.kernel(out.size)
    frequency, words, used = rans_stream.read(data[at:], (contexts + 1, _symbols(layout)), lanes, loops)
    if not loops.decode_tokens(
        words,
        used,
        base.view(out.dtype),
        keys.mask,
        shift,
        lowest,
        frequency,
        lanes,
        coded,
        layout.sign_magnitude,
        out,
    ):
        raise DamagedError("rans-delta words are damaged")
    return out.view(np.uint8)
