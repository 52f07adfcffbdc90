"""The error to expect of a block, rounding included, from the size of what is omitted.

Relies on numpy. Promises: pure; used to choose, never to promise. Model: the base's elements and the omitted
sum are normal within a block, with |b| and d per element; a value b lies on a grid of spacing q = 2u 2^e,
2^e <= |b|. Where nothing of a block is read the reference is on the grid itself, and an element's error is
q^2 R(d/q), R(x) = E[round(x Z)^2] = sum over m >= 1 of (2m - 1) P(|x Z| >= m - 1/2). Where some is read both
outputs are rounded, at unrelated places: q^2 (x^2 + g(x)), g(x) = E[f (1 - f)] with f the fractional part of
|x Z|: a difference of m + f steps becomes m or m + 1, with odds of f. Both are averaged over b. Light
fine-tunes leave many elements where they were, which dampens both effects: half of each (on a logarithmic
scale) chose best on real bf16 families, more than either all or none.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats
from mpstore.merge.problem import Problem

_LOW, _HIGH = 2.0**-7, 8.0
_KNOT_BITS = 3
"""Ratios are tabled at 2^3 places an octave, and straight in between."""
_POINTS = 240


def _grids() -> Floats:
    """Spacings of `_POINTS` equally likely normal values (|b| = 1 on average of squares), for u = 1/2."""
    sizes = np.linspace(0.0, 5.0, 2001)
    odds = np.array([math.erf(size / math.sqrt(2.0)) for size in sizes])
    values = np.interp((np.arange(_POINTS) + 0.5) / _POINTS, odds, sizes)
    grids: Floats = np.exp2(np.floor(np.log2(values)))
    return grids


@cache
def _tables() -> tuple[Floats, Floats, Floats]:
    """log x, and the log of the mean squared errors (untouched, touched) over d^2, where d = x 2u |b|."""
    sizes = np.geomspace(_LOW, _HIGH, 61)
    steps = np.geomspace(2.0**-10, 2.0**10, 121)
    on_grid = np.array(
        [sum((2 * m - 1) * math.erfc((m - 0.5) / (x * math.sqrt(2))) for m in range(1, 40)) for x in steps]
    )
    points = np.linspace(-6.0, 6.0, 1201)
    mass = np.exp(-0.5 * points**2)
    part = np.modf(np.abs(steps[:, None] * points))[0]
    off_grid = steps**2 + (part * (1 - part) * mass).sum(axis=1) / mass.sum()
    on_grid = np.where(steps > 8.0, steps**2 + 1 / 12, on_grid)
    grids = _grids()
    means = []
    for table in (on_grid, off_grid):
        x = sizes[:, None] / grids
        error = np.interp(np.log(x), np.log(steps), table / steps**2) * sizes[:, None] ** 2
        means.append(np.log(np.maximum(error.mean(axis=1) / sizes**2, 1e-12)))
    return np.log(sizes), means[0], means[1]


@cache
def _knots() -> tuple[int, Floats, Floats]:
    """The ratio of squared error to d^2 as a chain of straight lines: the number of the first knot, then for
    each knot its ratio and the slope behind it, (2, knots): untouched, touched. From _HIGH on it is 1.

    Float32 takes off what libraries make of the last bits of a logarithm: what is left is the same anywhere.
    """
    first, last = (np.float64(x).view(np.int64) >> (52 - _KNOT_BITS) for x in (_LOW, _HIGH))
    places = (np.arange(first, last + 1) << (52 - _KNOT_BITS)).view(np.float64)
    sizes, *tables = _tables()
    ratios = np.exp([0.5 * np.interp(np.log(places), sizes, table) for table in tables])
    ratios = ratios.astype(np.float32).astype(np.float64)
    slopes = np.diff(ratios, axis=1, append=1.0) / np.diff(places, append=np.inf)
    ratios[:, -1] = 1.0
    return int(first), ratios, slopes


def spacing(problem: Problem, blocks: npt.NDArray[np.int64]) -> Floats:
    """2u |b| of each block, (M,): how far apart output values lie, at |b|'s root mean square."""
    steps: Floats = (
        2.0 * problem.grid.roundoff[problem.tensor[blocks]] * problem.certificate.base_norm[blocks]
    )
    return steps


def squared_error(omitted: Floats, touched: Flags, spacings: Floats) -> Floats:
    """Expected squared error per block (M,): `omitted` = |sum of what is omitted|, `spacings` = `spacing`."""
    first, ratios, slopes = _knots()
    x = np.clip(omitted / np.maximum(spacings, 1e-300), _LOW, _HIGH)
    place = x.view(np.int64) >> (52 - _KNOT_BITS)
    beyond = x - (place << (52 - _KNOT_BITS)).view(np.float64)
    at = (place - first) + touched * ratios.shape[1]
    squares: Floats = np.square(omitted) * (ratios.ravel()[at] + slopes.ravel()[at] * beyond)
    return squares
