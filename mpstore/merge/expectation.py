"""The error to expect, beside the one that is certified: overlap between experts as their sketches have it.

Relies on numpy, ordering and the sketch policy. Promises: pure; an estimate, without rounding; it promises
nothing, but it is what the error usually comes to.
"""

from __future__ import annotations

import numpy as np

from mpstore.merge.ordering import Ordering
from mpstore.merge.plan_inputs import Floats
from mpstore.merge.policies.sketch import angles_of
from mpstore.merge.problem import Problem


def expected_squares(problem: Problem, ordering: Ordering) -> Floats:
    """Expected squared error after the first p units, p = 0 .. U: (U + 1,) float64; NaN without sketches."""
    if not any(problem.sketches):
        return np.full(ordering.units + 1, np.nan)
    angles = angles_of(problem)
    blocks = np.arange(problem.grid.blocks)
    unit = np.where(problem.candidate, ordering.unit, -1)
    omitted = np.zeros_like(problem.error)
    gains = np.zeros(ordering.units)
    for row in np.argsort(unit, axis=0, kind="stable")[::-1]:  # what is read last is omitted first
        size, number = problem.error[row, blocks], unit[row, blocks]
        if angles.gram is not None:
            beside = (angles.gram[row, :, blocks].T * (omitted > 0)).sum(axis=0)
        else:
            assert angles.similarity is not None
            beside = size * (angles.similarity[problem.tensor, row] * omitted.T).sum(axis=1)
        there = number >= 0
        gains += np.bincount(number[there], (size * size + 2.0 * beside)[there], ordering.units)
        omitted[row[there], blocks[there]] = size[there]
    squares: Floats = np.maximum(np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]]), 0.0)
    return squares
