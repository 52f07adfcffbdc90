"""Distances of 16-bit words to a base in tiers: most bits for the few that are far (reference of `tiers`).

Relies on numpy and planes_numpy. Promises: exact round trip for any words; `decode` reads nothing outside
`data`, writes nothing but `out`, and returns False for what `encode` did not write. The bytes are those of
docs/codecs.md, codec `tier-delta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore.kernels.bits_numpy import BitReader, Bits, Bytes, pack_bits, put_lengths, take_lengths
from mpstore.kernels.planes_numpy import difference, undifference
from mpstore.kernels.tiles_numpy import GROUP, LARGEST_TILE, any_of, choose_tile, coded_groups, read_map

ROW: Final = 8
HEADER_BYTES: Final = 4
MOST_BITS: Final = 7  # of the first two tiers together
MOST_LOW: Final = 5
FULL: Final = 255  # of the third tier: the distance itself follows
NO_CALM: Final = 0xFFFF  # no element is calm, and no rows are told
WITHOUT_TOP: Final = 0x7FFF
SAMPLED: Final = 16  # every so many-th group is counted to choose by
SAMPLED_FROM: Final = 256  # groups; a block of fewer is counted whole
ZERO_GROUP_BITS: Final = 32  # what coding a group of zeros is taken to cost
COUNTED: Final = 4096  # distances that are told apart in choosing
KEY_SHIFT: Final = 7
KEYS: Final = 256

Words = Any  # (n,) array of little-endian words of 16 bits
_WORD: Final = np.dtype("<u2")


@dataclass(frozen=True)
class _Choice:
    """`calm`: from which base word on (without its top bit) elements have their rows told; bits of the first
    two tiers."""

    calm: int
    low: int
    middle: int


def choose_calm(keys: npt.NDArray[np.int64], moved: npt.NDArray[np.int64], groups: int) -> int:
    """From how many sampled elements have each key, and how many of these are not zero. Each calm element
    that is not zero has its row told; several fall into one row, the more the fuller rows are."""
    calm = moves = 0
    every, rows = GROUP * groups, ROW * groups
    best, least = -1, every - 4 * groups
    for key in range(KEYS - 1, -1, -1):
        calm += int(keys[key])
        moves += int(moved[key])
        bits = every - calm + rows + (calm * moves * 8 // (8 * rows + 5 * moves) if moves else 0)
        if bits < least:
            best, least = key, bits
    return best << KEY_SHIFT if best >= 0 else NO_CALM


def choose_tiers(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Bits of the first two tiers that take least, from how often each distance is seen."""
    less = np.concatenate(([0], np.cumsum(counts))).tolist()

    def above(limit: int) -> int:
        return int(less[COUNTED] - less[min(limit + 1, COUNTED)])

    costs = {}
    for low in range(MOST_LOW + 1):
        for middle in range(1, MOST_BITS - low + 1):
            near, far = 1 << low, 1 << (low + middle)
            bits = (low + 1) * above(0) + (middle + 1) * above(near)
            costs[low, middle] = bits + 8 * above(near + far) + 16 * above(near + far + FULL * far)
    return min(costs, key=lambda pair: costs[pair])


def _choose(distance: Words, base: Words, coded: Bits) -> _Choice:
    groups = np.zeros(coded.size, np.bool_)
    groups[:: SAMPLED if coded.size >= SAMPLED_FROM else 1] = True
    sampled = np.repeat(groups & coded, GROUP)
    z, keys = distance[sampled], (base[sampled] & np.uint16(WITHOUT_TOP)) >> np.uint16(KEY_SHIFT)
    nonzero = z != 0
    counts = np.bincount(np.minimum(z[nonzero], COUNTED - 1), minlength=COUNTED)
    calm = choose_calm(
        np.bincount(keys, minlength=KEYS), np.bincount(keys[nonzero], minlength=KEYS), z.size // GROUP
    )
    return _Choice(calm, *choose_tiers(counts))


def _padded(words: Words) -> Words:
    """Zeros behind the last element, to whole groups."""
    return np.pad(words, (0, -words.size % GROUP))


def _planes(values: Words, count: int) -> list[bytes]:
    return [pack_bits((values >> np.uint16(plane)) & np.uint16(1)) for plane in range(count)]


def encode(words: Words, base: Words, sign_magnitude: bool) -> bytes | None:
    """The segment of one block, None where it would not be smaller."""
    distance, padded = _padded(difference(words, base, sign_magnitude)), _padded(base)
    nonzero: Bits = np.asarray(distance != 0)
    groups = any_of(nonzero, GROUP)
    tile = choose_tile(~groups, ZERO_GROUP_BITS)
    coded, bitmap = coded_groups(groups, tile)
    chosen = _choose(distance, padded, coded)
    every = np.repeat(coded, GROUP)
    distance, padded, nonzero = distance[every], padded[every], nonzero[every]
    told, streams = np.ones(distance.size, np.bool_), [b""]
    if chosen.calm != NO_CALM:
        calm = (padded & np.uint16(WITHOUT_TOP)) >= chosen.calm
        rows = any_of(calm & nonzero, ROW)
        streams = [pack_bits(rows)]
        told = ~calm | np.repeat(rows, ROW)
    streams.append(pack_bits(nonzero[told]))
    far = distance[nonzero]
    code = far - np.uint16(1)
    streams += _planes(code, chosen.low)
    rest = code >> np.uint16(chosen.low)
    streams.append(pack_bits(rest != 0))
    far, rest = far[rest != 0], rest[rest != 0] - np.uint16(1)
    streams += _planes(rest, chosen.middle)
    rest >>= np.uint16(chosen.middle)
    streams.append(pack_bits(rest != 0))
    far, rest = far[rest != 0], rest[rest != 0] - np.uint16(1)
    streams.append(np.minimum(rest, FULL).astype(np.uint8).tobytes())
    streams.append(far[rest >= FULL].tobytes())
    head = bytes([chosen.low | chosen.middle << 4, tile, chosen.calm & 255, chosen.calm >> 8])
    segment = b"".join([head, bitmap, put_lengths([len(stream) for stream in streams]), *streams])
    return segment if len(segment) < words.nbytes else None


def decode(data: Bytes, base: Words, sign_magnitude: bool, out: Words) -> bool:
    """Fill `out` from a segment of `encode` against the same base."""
    if data.size < HEADER_BYTES:
        return False
    bits, tile, lower, upper = data[:HEADER_BYTES].tolist()
    chosen = _Choice(lower | upper << 8, bits & 15, bits >> 4)
    if chosen.low > MOST_LOW or chosen.middle < 1 or chosen.low + chosen.middle > MOST_BITS:
        return False
    mapped = read_map(data, HEADER_BYTES, -(-out.size // GROUP), tile) if tile <= LARGEST_TILE + 1 else None
    taken = None if mapped is None else take_lengths(data, mapped[1], chosen.low + chosen.middle + 6)
    if mapped is None or taken is None or taken[1] + sum(taken[0]) != data.size:
        return False
    reader = BitReader(data, taken[1], taken[0])
    every = np.flatnonzero(np.repeat(mapped[0], GROUP))
    padded = _padded(base)
    distance = np.zeros(padded.size, _WORD)
    nonzero, distance[every] = _distances(reader, padded[every], chosen)
    if not reader.sound or (every[nonzero] >= out.size).any():
        return False
    out[:] = undifference(distance[: out.size], base, sign_magnitude)
    return True


def _values(reader: BitReader, of: int, planes: int) -> tuple[Words, Bits]:
    """The next tier, of so many elements: their bits, and which of them go on."""
    values = np.zeros(of, _WORD)
    for plane in range(planes):
        values |= reader.take(of).astype(_WORD) << np.uint16(plane)
    return values, reader.take(of)


def _distances(reader: BitReader, base: Words, chosen: _Choice) -> tuple[Any, Words]:
    """Which of the coded elements are not zero, and the distances of all; some, from an unsound reader."""
    if chosen.calm == NO_CALM:
        reader.take_bytes(0)
        told = np.ones(base.size, np.bool_)
    else:
        rows = reader.take(base.size // ROW)
        told = ((base & np.uint16(WITHOUT_TOP)) < chosen.calm) | np.repeat(rows, ROW)
    distance = np.zeros(base.size, _WORD)
    one = np.flatnonzero(told)
    one = one[reader.take(one.size)]
    values, more = _values(reader, one.size, chosen.low)
    distance[one] = values + np.uint16(1)
    two = one[more]
    values, more = _values(reader, two.size, chosen.middle)
    distance[two] += (values + np.uint16(1)) << np.uint16(chosen.low)
    three = two[more]
    rest = reader.take_bytes(three.size)
    distance[three] += (rest.astype(_WORD) + np.uint16(1)) << np.uint16(chosen.low + chosen.middle)
    last = three[rest == FULL]
    distance[last] = reader.take_bytes(2 * last.size).view(_WORD)
    return one, distance


def encode_many(raws: Sequence[Bytes], bases: Sequence[Bytes], sign_magnitude: bool) -> list[bytes | None]:
    """`encode` of several blocks, given as bytes, each against its base of the same size."""
    return [
        encode(raw.view(_WORD), base.view(_WORD), sign_magnitude)
        for raw, base in zip(raws, bases, strict=True)
    ]


def decode_many(
    segments: Sequence[Bytes], bases: Sequence[Bytes], outs: Sequence[Bytes], sign_magnitude: bool
) -> list[bool]:
    """`decode` of several blocks into `outs`, bytes all of them; False where one is damaged."""
    return [
        decode(segment, base.view(_WORD), sign_magnitude, out.view(_WORD))
        for segment, base, out in zip(segments, bases, outs, strict=True)
    ]


def hold(
    segments: Sequence[Bytes], bases: Sequence[Bytes], raws: Sequence[Bytes], sign_magnitude: bool
) -> list[bool]:
    """Whether each segment decodes to the block `raws` has for it."""
    outs = [np.empty_like(raw) for raw in raws]
    whole = decode_many(segments, bases, outs, sign_magnitude)
    return [one and np.array_equal(out, raw) for one, out, raw in zip(whole, outs, raws, strict=True)]
