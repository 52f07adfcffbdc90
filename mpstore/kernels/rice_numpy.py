"""Distances to a base in Rice codes, one bit plane after the other (numpy reference of the `rice` kernels).

Relies on numpy and planes_numpy. Promises: exact round trip for any words; `decode` reads nothing outside
`data`, writes nothing but `out`, and returns False for what `encode` did not write. The bytes are those of
docs/codecs.md, codec `rice-delta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore.kernels.bits_numpy import (
    BitReader,
    Bits,
    Bytes,
    densest_window,
    pack_bits,
    put_lengths,
    take_lengths,
)
from mpstore.kernels.planes_numpy import difference, undifference
from mpstore.kernels.tiles_numpy import GROUP, LARGEST_TILE, any_of, choose_tile, coded_groups, read_map

ROW: Final = 8  # elements of a group that a second flag speaks for
CONTEXTS: Final = 16
STEPS: Final = 12  # a quotient of so many steps is an escape: the distance follows as it is
HEADER_BYTES: Final = 6
SPARSE: Final = 0x80  # of a parameter: zeros are told by rows and groups,
FLAGGED: Final = 0x40  # a bit tells zeros from the rest, whose code is that of one less,
K_MASK: Final = 0x3F  # low bits
SPARSE_SHARE: Final = (4, 5)  # of a context's sampled distances, this share is zero at least
SAMPLED: Final = 8  # every eighth group is counted to choose parameters
SAMPLED_FROM: Final = 256  # groups; a block of fewer is counted whole
ZERO_GROUP_BITS: Final = 16  # what coding a group of zeros is taken to cost

Words = Any  # (n,) array of little-endian unsigned words


@dataclass(frozen=True)
class RiceShape:
    """Words of a block: their dtype, whether the top bit is a sign, and which bits of a base word name its
    context: (word & mask) >> shift; mask 0: there is one context."""

    dtype: np.dtype[Any]
    sign_magnitude: bool
    mask: int
    shift: int

    @property
    def bits(self) -> int:
        """Bits of a word."""
        return self.dtype.itemsize * 8


def keys_of(base: Words, shape: RiceShape, shift: int) -> npt.NDArray[np.int64]:
    """(n,) key of each element."""
    kind = shape.dtype.type
    found: npt.NDArray[np.int64] = ((base & kind(shape.mask)) >> kind(shift)).astype(np.int64)
    return found


def contexts_of(keys: npt.NDArray[np.int64], lowest: int, contexts: int) -> npt.NDArray[np.int64]:
    """(n,) context of each element: the keys below the lowest and above the highest count as those."""
    found: npt.NDArray[np.int64] = np.clip(keys - lowest, 0, contexts - 1)
    return found


def token_of(distance: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Distances below 16 are their own token; above, two tokens an octave."""
    wide = np.maximum(distance, np.uint64(16))
    octave = np.zeros(wide.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        moved = wide >> np.uint64(step) != 0
        octave[moved] += step
        wide = np.where(moved, wide >> np.uint64(step), wide)
    second = (np.maximum(distance, np.uint64(16)) >> (octave - 1).astype(np.uint64)) & np.uint64(1)
    tokens = 16 + 2 * (octave - 4) + second.astype(np.int64)
    return np.where(distance < 16, distance.astype(np.int64), tokens)


def middle_of(token: int) -> int:
    """A distance in the middle of a token's."""
    if token < 16:
        return token
    return (4 | (token & 1) << 1 | 1) << ((token - 16) // 2 + 2)


def choose_parameter(counts: npt.NDArray[np.int64], bits: int) -> int:
    """The parameter of a context, with what else is in that byte, from the counts of its tokens."""
    total, zeros = int(counts.sum()), int(counts[0])
    present = [(middle_of(token), int(count)) for token, count in enumerate(counts.tolist()) if count]
    best, least = 0, -1
    for flag in (0, 1):
        for k in range(bits - 1):
            cost = flag * total + (total - flag * zeros) * (1 + k)
            for middle, count in present:
                steps = (middle - flag) >> k if middle >= flag else 0
                cost += count * (steps if steps < STEPS else STEPS + bits)
            if least < 0 or cost < least:
                best, least = k | flag * FLAGGED, cost
    share, of = SPARSE_SHARE
    return best | SPARSE if total and zeros * of >= total * share else best


def _sampled(coded: Bits) -> Bits:
    """The elements that parameters are chosen by."""
    groups = -(-coded.size // GROUP)
    step = SAMPLED if groups >= SAMPLED_FROM else 1
    sampled = np.zeros(groups, np.bool_)
    sampled[::step] = True
    return np.repeat(sampled, GROUP)[: coded.size] & coded


def _parameters(
    distance: npt.NDArray[np.uint64], context: npt.NDArray[np.int64], contexts: int, bits: int
) -> list[int]:
    tokens = 16 + 2 * (bits - 4) if bits > 4 else 16
    flat = np.bincount(context * tokens + token_of(distance), minlength=contexts * tokens)
    return [choose_parameter(row, bits) for row in flat.reshape(contexts, tokens)]


def _active(sparse: Bits, nonzero: Bits, coded: Bits) -> tuple[Bits, Bits, Bits]:
    """Flags of groups and of rows, and the elements that have a Rice code."""
    speaks = sparse & coded
    groups, rows = any_of(speaks, GROUP), any_of(speaks, ROW)
    group_set = any_of(speaks & nonzero, GROUP)
    row_set = any_of(speaks & nonzero, ROW)
    asked = rows & np.repeat(group_set, GROUP // ROW)[: rows.size]
    active = coded & ~(sparse & ~np.repeat(row_set, ROW)[: coded.size])
    return group_set[groups], row_set[asked], active


def encode(words: Words, base: Words, shape: RiceShape) -> bytes | None:
    """The segment of one block, None where it would not be smaller."""
    distance = difference(words, base, shape.sign_magnitude)
    kind = shape.dtype.type
    nonzero: Bits = np.asarray(distance != 0)
    groups_nonzero = any_of(nonzero, GROUP)
    tile = choose_tile(~groups_nonzero, ZERO_GROUP_BITS)
    groups_coded, bitmap = coded_groups(groups_nonzero, tile)
    coded = np.repeat(groups_coded, GROUP)[: words.size]
    keys, sampled = keys_of(base, shape, shape.shift), _sampled(coded)
    most = (shape.mask >> shape.shift) + 1
    contexts = min(most, CONTEXTS)
    lowest = densest_window(np.bincount(keys[sampled], minlength=most), CONTEXTS)
    context = contexts_of(keys, lowest, contexts)
    parameters = np.array(
        _parameters(distance[sampled].astype(np.uint64), context[sampled], contexts, shape.bits), np.uint8
    )
    own = parameters[context]
    k = (own & np.uint8(K_MASK)).astype(shape.dtype)
    planes = int((parameters & np.uint8(K_MASK)).max())
    groups, rows, active = _active(own >= SPARSE, nonzero, coded)
    flagged = active & (own & np.uint8(FLAGGED) != 0)
    streams = [pack_bits(groups), pack_bits(rows), pack_bits(nonzero[flagged])]
    active &= ~flagged | nonzero
    code = distance - (flagged & nonzero)
    quotient = code >> k
    left = active
    for step in range(STEPS):
        more = quotient > kind(step)
        streams.append(pack_bits(more[left]))
        left = left & more
    kept = active & ~left
    for plane in range(planes):
        has = kept & (k > kind(plane))
        streams.append(pack_bits((code[has] >> kind(plane)) & kind(1)))
    streams.append(distance[left].tobytes())
    head = bytes([shape.shift, lowest & 255, lowest >> 8, contexts - 1, tile, planes])
    head += parameters.tobytes() + bitmap + put_lengths([len(stream) for stream in streams])
    segment = b"".join([head, *streams])
    return segment if len(segment) < words.nbytes else None


def _quotients(reader: BitReader, active: Bits, shape: RiceShape) -> tuple[Words, Bits]:
    """The quotients of active elements, and which of these are escapes."""
    quotient = np.zeros(active.size, shape.dtype)
    left = np.flatnonzero(active)
    for _ in range(STEPS):
        left = left[reader.take(left.size)]
        quotient[left] += shape.dtype.type(1)
    escaped = np.zeros(active.size, np.bool_)
    escaped[left] = True
    return quotient, escaped


def _awake(reader: BitReader, sparse: Bits, coded: Bits) -> Bits:
    """The elements that have a Rice code, from the flags of groups and rows."""
    speaks = sparse & coded
    groups, rows = any_of(speaks, GROUP), any_of(speaks, ROW)
    group_set, row_set = np.zeros_like(groups), np.zeros_like(rows)
    group_set[groups] = reader.take(int(groups.sum()))
    asked = rows & np.repeat(group_set, GROUP // ROW)[: rows.size]
    row_set[asked] = reader.take(int(asked.sum()))
    return coded & ~(sparse & ~np.repeat(row_set, ROW)[: coded.size])


def decode(data: Bytes, base: Words, shape: RiceShape, out: Words) -> bool:
    """Fill `out` from a segment of `encode` against the same base."""
    if data.size < HEADER_BYTES:
        return False
    shift, low, high, last, tile, planes = data[:HEADER_BYTES].tolist()
    lowest, contexts = low | high << 8, last + 1
    if (
        shift >= shape.bits
        or lowest > shape.mask >> shift
        or contexts > CONTEXTS
        or tile > LARGEST_TILE + 1
        or planes >= shape.bits
    ):
        return False
    at = HEADER_BYTES + contexts
    mapped = read_map(data, at, -(-out.size // GROUP), tile)
    if mapped is None:
        return False
    coded, at = np.repeat(mapped[0], GROUP)[: out.size], mapped[1]
    parameters = data[HEADER_BYTES : HEADER_BYTES + contexts]
    taken = take_lengths(data, at, 3 + STEPS + planes + 1)
    if parameters.size < contexts or int((parameters & K_MASK).max()) != planes or taken is None:
        return False
    lengths, at = taken
    if at + sum(lengths) != data.size:
        return False
    reader = BitReader(data, at, lengths)
    own = parameters[contexts_of(keys_of(base, shape, shift), lowest, contexts)]
    distance = _distances(reader, own, coded, shape, planes)
    if distance is None:
        return False
    out[:] = undifference(distance, base, shape.sign_magnitude)
    return True


def _distances(reader: BitReader, own: Bytes, coded: Bits, shape: RiceShape, planes: int) -> Words | None:
    kind = shape.dtype.type
    active = _awake(reader, own >= SPARSE, coded)
    flagged = np.flatnonzero(active & (own & np.uint8(FLAGGED) != 0))
    nonzero = reader.take(flagged.size)
    active[flagged] = nonzero
    distance, escaped = _quotients(reader, active, shape)
    k = (own & np.uint8(K_MASK)).astype(shape.dtype)
    distance <<= k
    kept = active & ~escaped
    for plane in range(planes):
        has = np.flatnonzero(kept & (k > kind(plane)))
        distance[has] |= reader.take(has.size).astype(shape.dtype) << kind(plane)
    distance[flagged[nonzero]] += kind(1)
    rest = reader.take_bytes(int(escaped.sum()) * shape.dtype.itemsize)
    if not reader.sound:
        return None
    distance[escaped] = rest.view(shape.dtype)
    return distance


def encode_many(raws: Sequence[Bytes], bases: Sequence[Bytes], shape: RiceShape) -> list[bytes | None]:
    """`encode` of several blocks, given as bytes, each against its base of the same size."""
    return [
        encode(raw.view(shape.dtype), base.view(shape.dtype), shape)
        for raw, base in zip(raws, bases, strict=True)
    ]


def decode_many(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], shape: RiceShape
) -> list[bool]:
    """`decode` of several blocks into `outs`, bytes all of them; False where one is damaged."""
    return [
        decode(segment, base.view(shape.dtype), shape, out.view(shape.dtype))
        for segment, base, out in zip(segments, bases, outs, strict=True)
    ]
