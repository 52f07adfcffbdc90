"""What leaving candidates out adds up to, unit by unit of an order of reading (numpy reference).

Relies on numpy. Promises: the bits of `omission_native`. Matrices (K, N) have a row an expert and a column a
block; cosines (T, K, K) are those of each tensor, `tensor` int32 (N,) says whose a block is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Reading:
    """An order of reading. `steps` int64 (N, K) has each block's candidates in that order, as unit <<
    `row_bits` | row; none are negative and come first. `error` (K, N), 0 where there is none. Units get
    their worths `piece` blocks at a time and of these step by step, which decides how sums are rounded."""

    steps: Integers
    row_bits: int
    error: Floats
    piece: int

    def pieces(self) -> Iterator[tuple[slice, Integers, Integers, Floats]]:
        """Of each piece which blocks (m of them), and rows, units and errors (K, m) in order."""
        for start in range(0, len(self.steps), self.piece):
            steps = self.steps[start : start + self.piece].T
            blocks = slice(start, start + steps.shape[1])
            rows = steps & ((1 << self.row_bits) - 1)
            sizes = np.take_along_axis(self.error[:, blocks], rows, axis=0)
            yield blocks, rows, steps >> self.row_bits, sizes


def certified_drops(reading: Reading, fixed: Floats, rounding: Floats, total: Floats, gains: Floats) -> None:
    """Add to each unit's gain by how much the certificate's squared error of a block falls when a candidate
    is read, all others being parallel. Terms (N,): see `Certificate`."""
    for blocks, _, units, sizes in reading.pieces():
        none = np.zeros((1, sizes.shape[1]))
        left = np.concatenate([np.cumsum(sizes[::-1], axis=0)[::-1], none])
        touched = np.concatenate([none > 0, units >= 0])
        own = np.minimum(rounding[blocks], np.maximum(total[blocks] - left, 0.0))
        errors = np.where(left > 0, left + fixed[blocks] + np.where(touched, own, 0.0), 0.0)
        squares = np.square(errors)
        _add_up(gains, units, squares[:-1] - squares[1:])


def expected_rises(reading: Reading, cosines: Floats, tensor: Numbers, gains: Floats) -> None:
    """Add to each unit's gain by how much |what is omitted|^2 of a block is expected to rise when a candidate
    is omitted too, from the last that is read to the first."""
    for blocks, rows, units, sizes in reading.pieces():
        flat = cosines.reshape(-1, cosines.shape[-1])
        places = tensor[blocks].astype(np.int64) * len(rows)
        every = np.arange(rows.shape[1])
        omitted = np.zeros((rows.shape[1], len(rows)))
        rises = np.zeros(sizes.shape)
        for step in range(len(rows) - 1, -1, -1):
            size = sizes[step] * (units[step] >= 0)
            beside = size * _product(flat.take(places + rows[step], axis=0), omitted)
            omitted[every, rows[step]] += size
            rises[step] = size * size + 2.0 * beside
        _add_up(gains, units, rises)


def _add_up(gains: Floats, units: Integers, worths: Floats) -> None:
    np.add.at(gains, units[units >= 0], worths[units >= 0])


def _product(one: Floats, other: Floats) -> Floats:
    """Row by row, in two sums as numpy's einsum has it: of even places and of odd ones, of eight places the
    last two first."""
    terms = one * other
    whole = terms.shape[1] // 8 * 8
    order = np.concatenate(
        [np.arange(whole).reshape(-1, 4, 2)[:, ::-1].ravel(), np.arange(whole, terms.shape[1])]
    )
    sums = np.zeros((2, len(terms)))
    for at in order:
        sums[at % 2] += terms[:, at]
    product: Floats = sums[0] + sums[1]
    return product


def angled_squares(sizes: Floats, cosines: Floats, tensor: Numbers) -> Floats:
    """(N,): |sum of vectors of these sizes (K, N) at these angles|^2."""
    squares = np.zeros(sizes.shape[1])
    for i, own in enumerate(sizes):
        beside = np.zeros(sizes.shape[1])
        for j, other in enumerate(sizes):
            beside += cosines[tensor, i, j] * other
        squares += own * beside
    return squares


def unit_costs(unit: Integers, bytes_: Integers, units: int) -> Integers:
    """(units,): the bytes (K, N) of each unit, -1 being none."""
    cost = np.zeros(units, np.int64)
    np.add.at(cost, unit[unit >= 0], bytes_[unit >= 0])
    return cost
