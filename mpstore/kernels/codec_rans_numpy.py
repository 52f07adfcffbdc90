"""Interleaved rANS in numpy: the reference for codec_rans_native, vectorised over the lanes of a step.

Relies on numpy and planes_numpy. Promises: the same bits as the compiled twin, in both directions; takes over
where that was not built (at about a hundredth of its speed).

A state is 32 bits in [2^16, 2^32), a word 16 bits, a probability 12 bits. Element i of a step belongs to
lane i.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mpstore.kernels import planes_numpy, rans_tables
from mpstore.kernels.rans_tables import frequencies, read_tables, write_tables

SLACK: Final = 5 * 128 + 1  # words decoders may look past the end: what one chunk of distances can take

LOW: Final = np.uint64(1 << 16)

__all__ = [
    "choose_codes", "count_bytes", "decode_symbols", "encode_symbols", "frequencies", "join_fine",
    "join_planes", "read_tables", "split_fine", "split_planes", "write_tables",
]  # fmt: skip


def choose_codes(counts: Any, codes: Any) -> None:
    """Fill uint8 `codes` with the weight codes nearest to `counts`, both (contexts, symbols); a context that
    does not occur gets its symbol 0."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    nearest = np.searchsorted(rans_tables.EDGES, (counts << 22) // totals, side="right")
    codes[:] = np.where(counts > 0, 1 + nearest, 0)
    codes[codes.max(axis=1) == 0, 0] = 1


def emit(state: Any, full: Any, words: Any, position: int) -> int:
    """Move the low 16 bits of the full lanes in front of `position`; the new position."""
    count = int(np.count_nonzero(full))
    words[position - count : position] = state[full].astype(np.uint16)
    state[full] >>= np.uint64(16)
    return position - count


def refill(state: Any, words: Any, position: int) -> int:
    """The next word into each lane that is short of one; the position after them."""
    short = state < LOW
    count = int(np.count_nonzero(short))
    state[short] = (state[short] << np.uint64(16)) | words[position : position + count]
    return position + count


def split_planes(words: Any, rotate: bool, planes: Any) -> None:
    """Words to (word bytes, n) planes, least significant first; a float's sign first moves to the low bit."""
    planes[:] = planes_numpy.split_planes(planes_numpy.rotate_sign(words) if rotate else words)


def join_planes(planes: Any, rotated: bool, out: Any) -> None:
    """Inverse of `split_planes`."""
    words = planes_numpy.join_planes(list(planes), out.dtype.itemsize)
    out[:] = planes_numpy.unrotate_sign(words) if rotated else words


def split_fine(top: Any, below: Any, ranks: Any, symbols: Any, packed: Any) -> None:
    """Two planes of n bytes to symbols (rank of the top byte << 2 | two top bits below) and six-bit rests.

    `packed` is ceil(n / 2) bytes of low nibbles (of element i, and of i + ceil(n / 2) shifted by 4), then
    ceil(n / 4) of bit pairs (of elements i + k ceil(n / 4), shifted by 2 k).
    """
    symbols[:] = (ranks[top] << 2) | (below >> 6)
    half = (top.size + 1) // 2
    packed[:] = 0
    for parts, low, mask, target in ((2, 0, 15, packed[:half]), (4, 4, 3, packed[half:])):
        for part in range(parts):
            piece = below[part * target.size : (part + 1) * target.size]
            target[: piece.size] |= ((piece >> low) & mask) << (8 // parts * part)


def join_fine(symbols: Any, values: Any, packed: Any, top: Any, below: Any) -> None:
    """Inverse of `split_fine`; `values` are the top bytes by rank."""
    top[:] = values[symbols >> 2]
    below[:] = symbols << 6
    half = (top.size + 1) // 2
    for parts, low, mask, source in ((2, 0, 15, packed[:half]), (4, 4, 3, packed[half:])):
        for part in range(parts):
            piece = below[part * source.size : (part + 1) * source.size]
            piece |= ((source[: piece.size] >> (8 // parts * part)) & mask) << low


def count_bytes(values: Any, counts: Any) -> None:
    """Add how often each byte value occurs to uint32 `counts` of shape (256,)."""
    counts += np.bincount(values, minlength=256).astype(np.uint32)


def encode_symbols(symbols: Any, frequency: Any, lanes: int, words: Any) -> int:
    """rANS words of bytes under one table, as `encode_tokens` without context or raw bits."""
    share = frequency[0].astype(np.uint64)
    starts = np.cumsum(share) - share
    states = np.full(lanes, LOW, np.uint64)
    position = words.size
    for first in range((symbols.size - 1) // lanes * lanes, -1, -lanes):
        if position < 3 * lanes + 1:
            return -1
        marks = symbols[first : first + lanes]
        state = states[: marks.size]
        part = share[marks]
        position = emit(state, state >= (part << np.uint64(20)), words, position)
        state[:] = (state // part << np.uint64(12)) + state % part + starts[marks]
    words[position - 2 * lanes : position] = states.astype("<u4").view("<u2")
    return int(position - 2 * lanes)


def decode_symbols(words: Any, used: int, frequency: Any, lanes: int, out: Any) -> bool:
    """Fill `out` from `used` rANS words (then SLACK zeros); False: `encode_symbols` did not write these."""
    share = frequency[0].astype(np.uint64)
    starts = np.cumsum(share) - share
    symbol_of = np.repeat(np.arange(256, dtype=np.uint8), frequency[0])
    states = np.ascontiguousarray(words[: 2 * lanes]).view("<u4").astype(np.uint64)
    position = 2 * lanes
    for first in range(0, out.size, lanes):
        if position > used:
            return False
        target = out[first : first + lanes]
        state = states[: target.size]
        slot = state & np.uint64(4095)
        target[:] = symbol_of[slot]
        state[:] = share[target] * (state >> np.uint64(12)) + slot - starts[target]
        position = refill(state, words, position)
    return position == used and bool((states == LOW).all())
