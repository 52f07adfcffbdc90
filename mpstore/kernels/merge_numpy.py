"""Combining deltas element by element: select, weigh, elect a sign, sum, add to the base (numpy reference).

Relies on numpy. Promises: the same bits as `merge_numba` for every input, NaN and infinities included;
element i of the result depends on element i of the inputs (and its offset in the tensor) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels import random_numpy

Floats: TypeAlias = npt.NDArray[np.float32]
_CHUNK = 1 << 13


@dataclass(frozen=True)
class Terms:
    """What is done with each of k deltas, as columns of length k.

    An element d of delta e counts as y = (d * scale) * weight where it is selected, else 0. It is selected
    unless |d| < low or |d| > high (so NaN is selected); where `random`, instead, if the 53-bit draw of (key,
    offset) is below `keep`. `elect`: only the y count whose sign is that of their sum (sum >= 0 is
    plus; zeros agree with nobody). `normalize`: divide by the weights that count, or by `divisor` without
    election. The result is base * base_scale + factor * sum; where that sum is 0 and base_scale 1, base.
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
    total = np.zeros(base.size, np.float32)
    for part in parts:
        total += part
    if terms.elect:
        total = _elected(parts, total, terms)
    elif terms.normalize:
        total /= terms.divisor
    total *= terms.factor
    np.add(base * terms.base_scale, total, out=out)
    if terms.base_scale == 1:
        np.copyto(out, base, where=total == 0)


def _elected(parts: list[Floats], total: Floats, terms: Terms) -> Floats:
    plus = total >= 0
    mixed = np.zeros_like(total)
    divisor = np.zeros_like(total)
    for e, part in enumerate(parts):
        agrees = np.where(plus, part > 0, part < 0).astype(np.float32)
        mixed += part * agrees
        divisor += terms.weight[e] * agrees
    if terms.normalize:
        divisor[divisor == 0] = 1
        mixed /= divisor
    return mixed
