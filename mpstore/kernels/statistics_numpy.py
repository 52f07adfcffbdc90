"""One block's delta statistics in plain numpy: the reference for `statistics_numba`, same bits.

Relies on numpy. Promises: sums run in float64 over 32 lanes in element order (lane = element mod 32), the
sketch over chunks of 2 048 elements; nothing depends on the machine. Non-finite deltas enter no sum.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

LANES: Final = 32
CHUNK: Final = 2048
MAGNITUDE: Final = 0x7FFFFFFF
INFINITY: Final = 0x7F800000
BINS: Final = 32768

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
# sums (3, 32) of delta^2, base * delta, base^2; sketch (32,); bins; counts; non-finite elements; largest
# finite |delta|
Observation: TypeAlias = tuple[Float64, Float64, npt.NDArray[np.uint16], npt.NDArray[np.uint32], int, float]


def mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finalizer (Steele, Lea, Flood 2014): 64 well-mixed bits from a counter."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


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


def _lanes(values: Float32) -> Float64:
    """(n,) float32 to (rows, 32) float64, the end filled with zeros."""
    padded = np.zeros(-(-values.size // LANES) * LANES, dtype=np.float64)
    padded[: values.size] = values
    return padded.reshape(-1, LANES)


def _sketch(delta: Float64) -> Float64:
    chunks = -(-delta.size // CHUNK)
    padded = np.zeros(chunks * CHUNK)
    padded[: delta.size] = delta.ravel()
    signed = padded.reshape(chunks, CHUNK // LANES, LANES) * sign_table().reshape(-1, LANES)
    parts = np.zeros((chunks, LANES))
    for row in range(CHUNK // LANES):  # in order, as the compiled loop adds
        parts += signed[:, row]
    flips = (chunk_words(chunks)[:, None] >> np.arange(LANES, dtype=np.uint64)) & np.uint64(1)
    return _in_order(np.where(flips, -parts, parts))


def _in_order(rows: Float64) -> Float64:
    """Sum of rows, strictly one after the other."""
    total = np.zeros(LANES)
    return total if rows.shape[0] == 0 else np.add.accumulate(rows, axis=0)[-1] + total


def observe(base: npt.NDArray[Any], expert: npt.NDArray[Any], difference: bool) -> Observation:
    """Statistics of one block: base and expert (n,) float32, or uint16 holding bfloat16.

    `difference`: delta is expert - base; else the expert's values are the delta.
    """
    origin, values = to_float32(base), to_float32(expert)
    with np.errstate(over="ignore", invalid="ignore"):
        delta = values - origin if difference else values
    magnitude = delta.view(np.uint32) & np.uint32(MAGNITUDE)
    counts = np.bincount(magnitude >> np.uint32(16), minlength=BINS)
    bins = np.flatnonzero(counts)
    finite = magnitude < np.uint32(INFINITY)
    d = _lanes(np.where(finite, delta, np.float32(0)))
    b = _lanes(np.where(finite, origin, np.float32(0)))
    sums = np.stack([_in_order(d * d), _in_order(d * b), _in_order(b * b)])
    largest = magnitude[finite].max(initial=np.uint32(0))
    return (
        sums,
        _sketch(d),
        bins.astype(np.uint16),
        counts[bins].astype(np.uint32),
        int(finite.size - np.count_nonzero(finite)),
        float(np.uint32(largest).view(np.float32)),
    )
