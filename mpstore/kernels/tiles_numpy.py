"""Tiles of groups of 64 elements, and a map that says of which tiles all elements are zero.

Relies on numpy and bits_numpy. Promises: the maps of tiles.c.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mpstore.kernels.bits_numpy import Bits, Bytes, pack_bits

GROUP: Final = 64  # elements that the compiled side handles at once: units of the map
LARGEST_TILE: Final = 12  # tiles of 64 << 12 elements at most


def any_of(flags: Bits, size: int) -> Bits:
    """Of each `size` flags in turn, whether one is set."""
    found: Bits = np.asarray(np.pad(flags, (0, -flags.size % size)).reshape(-1, size).any(1))
    return found


def choose_tile(zero: Bits, zero_group_bits: int) -> int:
    """Tile of 64 << (result - 1) elements that one bit of the map stands for; 0: no map. `zero`: of each
    group, whether all of its elements are; `zero_group_bits`: what coding such a group costs."""
    zeros = int(zero.sum())
    best, least = 0, zeros * zero_group_bits
    for tile in range(1, LARGEST_TILE + 2):
        rows = np.pad(zero, (0, -zero.size % (1 << (tile - 1))), constant_values=True)
        whole: Bits = np.asarray(rows.reshape(-1, 1 << (tile - 1)).all(1))
        spared = int(np.repeat(whole, 1 << (tile - 1))[: zero.size].sum())
        cost = whole.size + (zeros - spared) * zero_group_bits
        if cost < least:
            best, least = tile, cost
    return best


def coded_groups(nonzero: Bits, tile: int) -> tuple[Bits, bytes]:
    """Every group of a tile is coded if one of them is not zero, all are where there is no map; the map."""
    if not tile:
        return np.ones(nonzero.size, np.bool_), b""
    tiles = any_of(nonzero, 1 << (tile - 1))
    return np.repeat(tiles, 1 << (tile - 1))[: nonzero.size], pack_bits(tiles)


def read_map(data: Bytes, at: int, groups: int, tile: int) -> tuple[Bits, int] | None:
    """Which groups are coded by the map at `at`, and where that ends; None: it is cut off."""
    if not tile:
        return np.ones(groups, np.bool_), at
    tiles = -(-groups // (1 << (tile - 1)))
    bitmap = data[at : at + (tiles + 7) // 8]
    if bitmap.size * 8 < tiles:
        return None
    found = np.unpackbits(bitmap, bitorder="little")[:tiles].astype(np.bool_)
    return np.repeat(found, 1 << (tile - 1))[:groups], at + bitmap.size
