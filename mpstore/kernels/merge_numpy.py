"""Combining deltas element by element: select, weigh, elect a sign, sum, add to the base (numpy reference).

Relies on numpy. Promises: the same bits as `merge_native` for every input, NaN and infinities included;
element i of the result depends on element i of the inputs (and its offset in the tensor) alone, and not on
the order of the deltas: their terms are rounded to a common grid, 2^-48 of the largest's power of two, on
which float64 sums are exact. A sum of two is the float32 sum of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import random_numpy

Floats: TypeAlias = npt.NDArray[np.float32]
Wide: TypeAlias = npt.NDArray[np.float64]
NAN = np.float32(np.nan)
MAGNITUDE = np.uint32(0x7FFFFFFF)
_CHUNK = 1 << 13


@dataclass(frozen=True)
class Terms:
    """What is done with each of k deltas, as columns of length k.

    An element d of delta e counts as y = (d * scale) * weight where it is selected, else 0. It is selected
    unless |d| < low or |d| > high (so NaN is selected); where `random`, instead, if the 53-bit draw of (key,
    offset) is below `keep`. `elect`: only the y count whose sign is that of their sum (sum >= 0 is plus;
    zeros agree with nobody). `normalize`: divide by the weights that count, or by `divisor` without
    election. The result is base * base_scale + factor * sum; where that sum is 0 and base_scale 1, base.
    `spare` bits are left for the sum of the terms: k of the whole merge is at most 2^spare.
    """

    weight: Floats
    scale: Floats
    low: Floats
    high: Floats
    key: npt.NDArray[np.uint64]
    keep: npt.NDArray[np.uint64]
    random: bool
    elect: bool
    normalize: bool
    divisor: np.float32
    factor: np.float32
    base_scale: np.float32
    spare: int = 4


def spare_bits(experts: int) -> int:
    """Bits that a sum of so many terms may grow by; 4 up to 16, so that few and many agree."""
    return max(4, (max(experts, 1) - 1).bit_length())


def grid(largest: npt.NDArray[np.uint32], spare: int) -> Wide:
    """For |y| up to the float32 of pattern `largest`: c such that (y + c) - c rounds y to a common grid.

    c = 1.5 * 2^(exponent + spare); 0 (no rounding) where the largest is infinite or NaN.
    """
    exponent = (largest >> np.uint32(23)).astype(np.uint64)
    bits = ((exponent + np.uint64(1023 - 127 + spare)) << np.uint64(52)) | np.uint64(1 << 51)
    return np.where(exponent == 255, 0.0, bits.view(np.float64))


def sums(parts: Sequence[Floats], size: int, spare: int) -> tuple[Wide, list[Wide]]:
    """The exact sum of the rounded parts, and the rounded parts, float64 of shape (size,)."""
    largest = np.zeros(size, np.uint32)
    for part in parts:
        np.maximum(largest, part.view(np.uint32) & MAGNITUDE, out=largest)
    to_grid = grid(largest, spare)
    rounded = [(part.astype(np.float64) + to_grid) - to_grid for part in parts]
    total = np.zeros(size, np.float64)
    for one in rounded:
        total += one
    return total, rounded


def exact_weights(weight: Floats, spare: int) -> Wide:
    """Weights in float64, rounded so that their sums are exact in any order."""
    largest = np.abs(weight).max(initial=np.float32(0)).reshape(1).astype(np.float32)
    to_grid = grid(largest.view(np.uint32), spare)[0]
    rounded: Wide = (weight.astype(np.float64) + to_grid) - to_grid
    return rounded


def _weighed(delta: Floats, terms: Terms, e: int, start: int) -> Floats:
    if terms.random:
        dropped = random_numpy.draws(int(terms.key[e]), start, delta.size) >= terms.keep[e]
    else:
        magnitude = np.abs(delta)
        dropped = (magnitude < terms.low[e]) | (magnitude > terms.high[e])
    chosen = np.where(dropped, np.float32(0), delta)
    weighed: Floats = (chosen * terms.scale[e]) * terms.weight[e]
    return weighed


def combine(base: Floats, deltas: Sequence[Floats], terms: Terms, start: int, out: Floats) -> None:
    """Fill `out` with base * base_scale + factor * (sum of the terms); all arrays are of shape (n,)."""
    with np.errstate(all="ignore"):
        for at in range(0, base.size, _CHUNK):  # temporaries that fit the second-level cache
            window = slice(at, at + _CHUNK)
            _combine(base[window], [delta[window] for delta in deltas], terms, start + at, out[window])


def _combine(base: Floats, deltas: Sequence[Floats], terms: Terms, start: int, out: Floats) -> None:
    parts = [_weighed(delta, terms, e, start) for e, delta in enumerate(deltas)]
    total, rounded = sums(parts, base.size, terms.spare)
    if terms.elect:
        merged = _elected(parts, rounded, total, terms)
    else:
        merged = total.astype(np.float32)
        if terms.normalize:
            merged /= terms.divisor
    merged *= terms.factor
    value = base * terms.base_scale + merged
    np.copyto(out, np.where(np.isnan(value), NAN, value))
    if terms.base_scale == 1:
        np.copyto(out, base, where=merged == 0)


def _elected(parts: Sequence[Floats], rounded: Sequence[Wide], total: Wide, terms: Terms) -> Floats:
    plus = np.zeros_like(total)
    for one in rounded:
        plus += np.where(one > 0, one, 0.0)
    up = total >= 0
    mixed: Any = np.where(up, plus, total - plus).astype(np.float32)
    if terms.normalize:
        divisor = np.zeros_like(total)
        for part, weight in zip(parts, exact_weights(terms.weight, terms.spare), strict=True):
            divisor += np.where(np.where(up, part > 0, part < 0), weight, 0.0)
        mixed /= np.where(divisor == 0, 1.0, divisor).astype(np.float32)
    return np.asarray(mixed, np.float32)
