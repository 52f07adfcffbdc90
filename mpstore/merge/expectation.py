"""The error to expect, beside the one that is certified: overlap between experts as their sketches have it.

Relies on numpy, ordering and problem. Promises: pure; estimates, which promise nothing: what the error
usually comes to, rounding left out, and what the bound would be if the experts had been compared.
"""

from __future__ import annotations

import numpy as np

from mpstore.merge.ordering import Ordering
from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.problem import Problem
from mpstore.merge.products import PIECE_ENTRIES


def expected_squares(problem: Problem, ordering: Ordering) -> Floats:
    """Expected squared error after the first p units, p = 0 .. U: (U + 1,) float64; NaN without sketches."""
    if not any(one is not None for one in problem.sketches):
        return np.full(ordering.units + 1, np.nan)
    units, rises = [np.zeros(0, np.int64)], [np.zeros(0)]
    for blocks, rows, unit in ordering.steps():
        present = unit >= 0
        units.append(unit[present])
        rises.append(_rises(problem, blocks, rows, present)[present])
    gains = np.bincount(np.concatenate(units), np.concatenate(rises), ordering.units)
    squares: Floats = np.maximum(np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]]), 0.0)
    return squares


def _rises(problem: Problem, piece: slice, rows: Integers, present: Flags) -> Floats:
    """(K, m): by how much |what is omitted|^2 of a block rises when this candidate is omitted too, which is
    done from the last that is read to the first."""
    sizes = np.take_along_axis(problem.error[:, piece], rows, axis=0) * present
    if problem.expected_products is not None:
        products = problem.expected_products.of(piece)
    else:
        products = None
        tensors = problem.tensor[piece].astype(np.int64) * problem.experts
        cosines = problem.cosines.reshape(-1, problem.experts)
    rises = np.zeros(rows.shape)
    every = np.arange(rows.shape[1])
    places = every * problem.experts + rows  # in `omitted` as one long row, which is quicker to index
    omitted = np.zeros((rows.shape[1], problem.experts))
    flat = omitted.reshape(-1)
    for step in range(len(rows) - 1, -1, -1):
        row, size = rows[step], sizes[step]
        if products is not None:
            beside = np.einsum("nj,nj->n", products[every, row], omitted)
            flat[places[step]] += present[step]
        else:
            beside = size * np.einsum("nj,nj->n", cosines.take(tensors + row, axis=0), omitted)
            flat[places[step]] += size
        rises[step] = size * size + 2.0 * beside
    return rises


def bound_if_compared(problem: Problem, selected: Flags) -> float:
    """About the bound that the certificate would have, if all inner products were known."""
    squares = 0.0
    cosines = problem.cosines.reshape(-1, problem.experts)
    step = max(PIECE_ENTRIES // max(problem.experts, 1), 1)
    for start in range(0, problem.grid.blocks, step):
        piece = slice(start, start + step)
        omitted = problem.candidate[:, piece] & ~selected[:, piece]
        sizes = problem.error[:, piece] * omitted
        tensors = problem.tensor[piece].astype(np.int64) * problem.experts
        total = np.zeros(sizes.shape[1])
        for row, size in enumerate(sizes):
            total += size * np.einsum("nj,jn->n", cosines.take(tensors + row, axis=0), sizes)
        error = problem.certificate.error_of(piece)
        touched: Flags = np.any(selected[:, piece], axis=0)
        squares += float(np.square(error(np.sqrt(np.maximum(total, 0.0)), touched)).sum())
    return float(np.sqrt(squares))
