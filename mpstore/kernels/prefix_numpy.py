"""Floats as exponents in prefix codes, and the bits below them as they are (numpy reference of `prefix`).

Relies on numpy, bits_numpy and planes_numpy. Promises: exact round trip for any words; `decode_symbols` reads
nothing outside `data`, writes nothing but `out`, and returns False for what `encode_symbols` did not write.
The bytes are those of docs/codecs.md, codec `prefix-planes`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore.kernels.bits_numpy import BitReader, Bytes, densest_window, pack_bits, put_lengths, take_lengths
from mpstore.kernels.planes_numpy import rotate_sign, unrotate_sign

WINDOW: Final = 16  # consecutive symbols that have codes of their own; all others are an escape and a byte
LEAVES: Final = WINDOW + 1
HEADER_BYTES: Final = 1 + LEAVES
PROBE_BYTES: Final = 4096
STRIP: Final = 1024  # symbols that the compiled side takes together
SAMPLED: Final = 8  # every eighth strip is counted to choose codes,
SAMPLED_FROM: Final = 16  # of blocks of so many

Words = Any  # (n,) array of little-endian unsigned words


@dataclass(frozen=True)
class PrefixShape:
    """Words of a block: their dtype, and how many low bits (mantissa and sign) are no part of the symbol."""

    dtype: np.dtype[Any]
    rest_bits: int

    @property
    def planes(self) -> int:
        """Whole bytes of the rest."""
        return self.rest_bits // 8

    @property
    def odd_bits(self) -> int:
        """Bits of the rest above these."""
        return self.rest_bits % 8


@dataclass(frozen=True)
class Split:
    """A block taken apart: the symbols' segment, the rest's whole bytes as (planes, n), which of these
    look as if they could be packed, and its odd bits one after the other."""

    symbols: bytes
    planes: Bytes
    promising: tuple[bool, ...]
    odd: bytes


def code_lengths(counts: npt.NDArray[np.int64]) -> list[int]:
    """Length of each leaf's code by Huffman's construction. Of equal weights, the leaf or tree that was made
    first is joined first."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(count), place, (place,)) for place, count in enumerate(counts.tolist())
    ]
    lengths = [0] * counts.size
    heapq.heapify(heap)
    made = counts.size
    while len(heap) > 1:
        weight, _, leaves = heapq.heappop(heap)
        other, _, more = heapq.heappop(heap)
        for leaf in (*leaves, *more):
            lengths[leaf] += 1
        heapq.heappush(heap, (weight + other, made, (*leaves, *more)))
        made += 1
    return lengths


@dataclass(frozen=True)
class _Node:
    """An inner node of the tree: (leaf?, number) of its two sides."""

    sides: tuple[tuple[bool, int], tuple[bool, int]]


def tree(lengths: Sequence[int]) -> list[_Node] | None:
    """The inner nodes of the canonical tree, by depth, from the root. None: these lengths are no tree's.

    At each depth the leaves come first, in their order, then the inner nodes; their two sides are the nodes
    of the next depth in turn.
    """
    used = sorted((length, leaf) for leaf, length in enumerate(lengths))
    levels: list[list[tuple[bool, int]]] = []
    inner = at = depth = 0
    here = 1
    while here:
        leaves = []
        while at < len(used) and used[at][0] == depth:
            leaves.append((True, used[at][1]))
            at += 1
        left = here - len(leaves)
        if left < 0 or inner + left > LEAVES - 1:
            return None
        levels.append(leaves + [(False, inner + n) for n in range(left)])
        inner += left
        here, depth = 2 * left, depth + 1
    if at < len(used):
        return None
    nodes = []
    for level, below in itertools.pairwise(levels):
        pairs = iter(below)
        nodes += [_Node((next(pairs), next(pairs))) for leaf, _ in level if not leaf]
    return nodes


def _leaves_of(symbols: Bytes, first: int) -> npt.NDArray[np.int64]:
    place = symbols.astype(np.int64) - first
    return np.where((place >= 0) & (place < WINDOW), place, WINDOW)


def _walk(nodes: list[_Node], size: int) -> Iterator[tuple[_Node, list[Any]]]:
    """Each node with the list that holds the elements that come to it, and is to get those of its sides."""
    reach: dict[int, Any] = {0: np.arange(size)}
    for number, node in enumerate(nodes):
        sides: list[Any] = [reach[number]]
        yield node, sides
        for (leaf, child), elements in zip(node.sides, sides[1:], strict=True):
            if not leaf:
                reach[child] = elements


def encode_symbols(symbols: Bytes) -> bytes:
    """The segment of (n,) symbols."""
    sample = symbols
    if symbols.size >= SAMPLED_FROM * STRIP:
        sample = symbols[np.arange(symbols.size) // STRIP % SAMPLED == 0]
    first = densest_window(np.bincount(sample, minlength=256), WINDOW)
    leaves = _leaves_of(symbols, first)
    lengths = code_lengths(1 + np.bincount(_leaves_of(sample, first), minlength=LEAVES))
    nodes = tree(lengths)
    assert nodes is not None
    under = _leaves_under(nodes)
    streams = []
    for number, (_, sides) in enumerate(_walk(nodes, symbols.size)):
        elements = sides[0]
        bits = under[number][leaves[elements]]
        streams.append(pack_bits(bits))
        sides += [elements[~bits], elements[bits]]
    streams.append(symbols[leaves == WINDOW].tobytes())
    head = bytes([first, *lengths])
    return b"".join([head, put_lengths([len(stream) for stream in streams]), *streams])


def _leaves_under(nodes: list[_Node]) -> npt.NDArray[np.bool_]:
    """(nodes, leaves): whether the leaf lies on the second side of the node."""
    second = np.zeros((len(nodes), LEAVES), np.bool_)
    any_side = np.zeros((len(nodes), LEAVES), np.bool_)
    for number in range(len(nodes) - 1, -1, -1):
        for side, (leaf, child) in enumerate(nodes[number].sides):
            mine = np.arange(LEAVES) == child if leaf else any_side[child]
            any_side[number] |= mine
            if side:
                second[number] |= mine
    return second


def decode_symbols(data: Bytes, out: Bytes) -> bool:
    """Fill `out` from a segment of `encode_symbols`."""
    if data.size < HEADER_BYTES:
        return False
    first = int(data[0])
    nodes = tree(data[1:HEADER_BYTES].tolist())
    if nodes is None or first > 256 - WINDOW:
        return False
    taken = take_lengths(data, HEADER_BYTES, len(nodes) + 1)
    if taken is None or taken[1] + sum(taken[0]) != data.size:
        return False
    reader = BitReader(data, taken[1], taken[0])
    leaves = np.full(out.size, WINDOW, np.int64)
    for node, sides in _walk(nodes, out.size):
        elements = sides[0]
        bits = reader.take(elements.size)
        sides += [elements[~bits], elements[bits]]
        for (leaf, child), reached in zip(node.sides, sides[1:], strict=True):
            if leaf:
                leaves[reached] = child
    escaped = leaves == WINDOW
    out[:] = first + leaves
    out[escaped] = reader.take_bytes(int(escaped.sum()))
    return reader.sound


def is_promising(plane: Bytes) -> bool:
    """Whether the first bytes of a plane are so uneven that packing them is worth a try."""
    sample = plane[:PROBE_BYTES]
    counts = np.bincount(sample, minlength=256)
    size = sample.size
    return bool(256 * 100 * int((counts * counts).sum()) > 115 * (size * size + 256 * size))


def split(words: Words, shape: PrefixShape) -> Split:
    """A block's words taken apart."""
    turned = rotate_sign(words)
    kind = shape.dtype.type
    symbols = (turned >> kind(shape.rest_bits)).astype(np.uint8)
    planes = np.empty((shape.planes, words.size), np.uint8)
    for place in range(shape.planes):
        planes[place] = ((turned >> kind(8 * place)) & kind(255)).astype(np.uint8)
    odd = [pack_bits((turned >> kind(8 * shape.planes + bit)) & kind(1)) for bit in range(shape.odd_bits)]
    promising = tuple(is_promising(plane) for plane in planes)
    return Split(encode_symbols(symbols), planes, promising, b"".join(odd))


def join(symbols: Bytes, planes: Sequence[Bytes], odd: Bytes, shape: PrefixShape, out: Words) -> bool:
    """Fill `out` from the parts of `split`; `odd` has ceil(n / 8) bytes for each odd bit. False: damaged."""
    kind = shape.dtype.type
    top = np.empty(out.size, np.uint8)
    if not decode_symbols(symbols, top):
        return False
    turned = top.astype(shape.dtype) << kind(shape.rest_bits)
    for place, plane in enumerate(planes):
        turned |= plane.astype(shape.dtype) << kind(8 * place)
    size = (out.size + 7) // 8
    for bit in range(shape.odd_bits):
        bits = np.unpackbits(odd[bit * size : (bit + 1) * size], count=out.size, bitorder="little")
        turned |= bits.astype(shape.dtype) << kind(8 * shape.planes + bit)
    out[:] = unrotate_sign(turned)
    return True


def split_many(raws: Sequence[Bytes], shape: PrefixShape) -> list[Split]:
    """`split` of several blocks, given as bytes."""
    return [split(raw.view(shape.dtype), shape) for raw in raws]


def join_many(
    symbols: Sequence[Bytes],
    planes: Sequence[Sequence[Bytes]],
    odd: Sequence[Bytes],
    outs: Sequence[Bytes],
    shape: PrefixShape,
) -> list[bool]:
    """`join` of several blocks into `outs`, bytes all of them; False where one is damaged."""
    return [
        join(one, own, bits, shape, out.view(shape.dtype))
        for one, own, bits, out in zip(symbols, planes, odd, outs, strict=True)
    ]
