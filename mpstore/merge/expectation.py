"""The error to expect, beside the one that is certified: overlap between experts as their sketches have it.

Relies on numpy, ordering and problem. Promises: pure; estimates, which promise nothing: what the error
usually comes to, rounding left out, and what the bound would be if the experts had been compared.
"""

from __future__ import annotations

import numpy as np

from mpstore import kernels
from mpstore.kernels.omission_numpy import Reading
from mpstore.merge.ordering import Ordering
from mpstore.merge.plan_inputs import Flags, Floats
from mpstore.merge.problem import Problem
from mpstore.merge.products import PIECE_ENTRIES, Products


def expected_squares(problem: Problem, ordering: Ordering) -> Floats:
    """Expected squared error after the first p units, p = 0 .. U: (U + 1,) float64; NaN without sketches."""
    if not any(one is not None for one in problem.sketches):
        return np.full(ordering.units + 1, np.nan)
    gains = np.zeros(ordering.units)
    reading = ordering.reading(problem.error)
    if problem.expected_products is None:
        kernels.pick("omission").expected_rises(reading, problem.cosines, problem.tensor, gains)
    else:
        _add_rises(problem, problem.expected_products, reading, gains)
    squares: Floats = np.maximum(np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]]), 0.0)
    return squares


def _add_rises(problem: Problem, products: Products, reading: Reading, gains: Floats) -> None:
    """What `omission.expected_rises` does, where inner products are known."""
    for piece, rows, units, sizes in reading.pieces():
        present = units >= 0
        matrices = products.of(piece)
        every = np.arange(rows.shape[1])
        omitted = np.zeros((rows.shape[1], problem.experts))
        rises = np.zeros(rows.shape)
        for step in range(len(rows) - 1, -1, -1):
            row, size = rows[step], sizes[step] * present[step]
            beside = np.einsum("nj,nj->n", matrices[every, row], omitted)
            omitted[every, row] += present[step]
            rises[step] = size * size + 2.0 * beside
        np.add.at(gains, units[present], rises[present])


def bound_if_compared(problem: Problem, selected: Flags) -> float:
    """About the bound that the certificate would have, if all inner products were known."""
    squares = 0.0
    sizes = problem.error * (problem.candidate & ~selected)
    touched: Flags = np.any(selected, axis=0)
    total = kernels.pick("omission").angled_squares(sizes, problem.cosines, problem.tensor)
    left = np.sqrt(np.maximum(total, 0.0))
    step = max(PIECE_ENTRIES // max(problem.experts, 1), 1)
    for start in range(0, problem.grid.blocks, step):
        piece = slice(start, start + step)
        error = problem.certificate.error_of(piece)
        squares += float(np.square(error(left[piece], touched[piece])).sum())
    return float(np.sqrt(squares))
