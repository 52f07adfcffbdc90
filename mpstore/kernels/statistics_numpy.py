"""One block's delta statistics in plain numpy: the reference for `statistics_native`, same bits.

Relies on execute_numpy. Promises: sums run over tiles of 4 x 32 elements in float64, the sketch likewise over
chunks of 2 048; nothing depends on the machine. Non-finite deltas enter no sum.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import execute_numpy

LANES: Final = 32
TILE_ROWS: Final = 4
TILE: Final = LANES * TILE_ROWS
CHUNK: Final = 2048
MAGNITUDE: Final = 0x7FFFFFFF
INFINITY: Final = 0x7F800000
BINS: Final = 32768

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]


class Observation(NamedTuple):
    """Sums over the elements whose delta is finite; `sketch` int8 (32,) times `sketch_scale`; `bins`
    (ascending float32 patterns >> 16 of |delta|), their `counts`, and how many of each may be `over` the
    bin's lower edge (of bfloat16 those that are, of float32 all); how many are not finite; the largest
    finite |delta|."""

    delta_sq: float
    dot_base_delta: float
    base_sq: float
    sketch: npt.NDArray[np.int8]
    sketch_scale: float
    bins: npt.NDArray[np.uint16]
    counts: npt.NDArray[np.uint32]
    over: npt.NDArray[np.uint32]
    nonfinite: int
    delta_max: float


def mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finalizer (Steele, Lea, Flood 2014): 64 well-mixed bits from a counter."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@functools.lru_cache(maxsize=8)
def chunk_words(chunks: int) -> npt.NDArray[np.uint64]:
    """One word a chunk; bit l flips lane l of that chunk."""
    return mix(np.arange(1, chunks + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def sign_table() -> Float32:
    """The sketch's signs inside a chunk, shape (2048,), each +1 or -1."""
    words = mix(np.arange(CHUNK, dtype=np.uint64) + np.uint64(0xD1B54A32D192ED03))
    return np.where(words >> np.uint64(63), np.float32(-1), np.float32(1))


def to_float32(items: npt.NDArray[Any]) -> Float32:
    """float32 items as they are; uint16 items are bfloat16 bit patterns."""
    if items.dtype == np.uint16:
        return (items.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return items


def _tiles(values: npt.NDArray[Any], multiple: int) -> npt.NDArray[Any]:
    """(n,) to (tiles, 4, 32), the end filled with zeros to a multiple of so many elements."""
    padded = np.zeros(-(-values.size // multiple) * multiple, dtype=values.dtype)
    padded[: values.size] = values
    return padded.reshape(-1, TILE_ROWS, LANES)


def _folded(tiles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(tiles, 4, 32) to (tiles, 32), in the order of the compiled loop."""
    folded: npt.NDArray[Any] = (tiles[:, 0] + tiles[:, 1]) + (tiles[:, 2] + tiles[:, 3])
    return folded


def _in_order(rows: Float64) -> Float64:
    """Sum over the first axis, strictly one after the other."""
    total = np.zeros(rows.shape[1:])
    return total if rows.shape[0] == 0 else np.add.accumulate(rows, axis=0)[-1] + total


def _sum(products: Float64) -> float:
    return float(_in_order(_in_order(_folded(products))[:, None])[0])


def _sketch(delta: Float32) -> tuple[npt.NDArray[np.int8], float]:
    signs = sign_table().reshape(-1, TILE_ROWS, LANES)
    chunks = -(-delta.size // CHUNK)
    tiles = _tiles(delta, CHUNK).reshape(chunks, *signs.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        signed = (tiles * signs).reshape(-1, TILE_ROWS, LANES)
        parts = _folded(signed).astype(np.float64).reshape(chunks, CHUNK // TILE, LANES)
        parts = _in_order(parts.swapaxes(0, 1))
        flips = (chunk_words(chunks)[:, None] >> np.arange(LANES, dtype=np.uint64)) & np.uint64(1)
        sketch = _in_order(np.where(flips, -parts, parts))
        scale = np.float32(np.abs(sketch).max() / 127)
    if not np.isfinite(scale) or scale == 0:
        return np.zeros(LANES, np.int8), 0.0
    return np.clip(np.rint(sketch / np.float64(scale)), -127, 127).astype(np.int8), float(scale)


def observe_many(
    bases: Sequence[npt.NDArray[Any]], experts: Sequence[npt.NDArray[Any]], difference: bool
) -> list[Observation]:
    """`observe` of several blocks, all of one dtype; the first has the bins of all, the others none."""
    made = [observe(base, expert, difference) for base, expert in zip(bases, experts, strict=True)]
    total, over = np.zeros(BINS, np.uint32), np.zeros(BINS, np.uint32)
    for one in made:
        total[one.bins] += one.counts
        over[one.bins] += one.over
    bins = np.flatnonzero(total).astype(np.uint16)
    first = made[0]._replace(bins=bins, counts=total[bins], over=over[bins])
    return [first, *(one._replace(bins=bins[:0], counts=total[:0], over=over[:0]) for one in made[1:])]


def observe(base: npt.NDArray[Any], expert: npt.NDArray[Any], difference: bool) -> Observation:
    """Statistics of one block: base and expert (n,), both float32 or both uint16 holding bfloat16.

    `difference`: delta is expert - base, as merges have it; else the expert's values are the delta.
    """
    origin, values = to_float32(base), to_float32(expert)
    delta = np.empty_like(values) if difference else values
    if difference:
        execute_numpy.difference(values, origin, delta)
    magnitude = delta.view(np.uint32) & np.uint32(MAGNITUDE)
    narrow = base.dtype == np.uint16
    counts = np.bincount(magnitude >> np.uint32(16), minlength=BINS)
    odd = magnitude[(magnitude & np.uint32(0xFFFF)) != 0]
    over = np.bincount(odd >> np.uint32(16), minlength=BINS) if narrow else counts
    bins = np.flatnonzero(counts)
    finite = magnitude < np.uint32(INFINITY)
    moved = np.where(finite, delta, np.float32(0))
    d = _tiles(moved, TILE).astype(np.float64)
    b = _tiles(np.where(finite & np.isfinite(origin), origin, np.float32(0)), TILE).astype(np.float64)
    largest = magnitude[finite].max(initial=np.uint32(0))
    return Observation(
        _sum(d * d),
        _sum(d * b),
        _sum(b * b),
        *_sketch(moved),
        bins.astype(np.uint16),
        counts[bins].astype(np.uint32),
        over[bins].astype(np.uint32),
        int(finite.size - np.count_nonzero(finite)),
        float(np.uint32(largest).view(np.float32)),
    )
