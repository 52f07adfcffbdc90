"""An order of reading, what each step of it costs, and where a budget or an error limit cuts it.

Relies on numpy and problem. Promises: costs are upper bounds of the bytes the executor reads: every frame
with its header, once, and every foreign delta base once for each output block that needs it. Cutting is
monotone: a larger budget never leaves more of what the policy counts as error (see `cut`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.problem import Problem
from mpstore.merge.products import PIECE_ENTRIES


@dataclass(frozen=True)
class Ordering:
    """Units of reading in order: `unit` (K, N) is the unit of each candidate (-1: none), `cost` (U,) int64
    what it costs when all before it are read, `fills`: densities fall along the order and each unit's worth
    is exact once its predecessors in the same block are read, so later ones may fill a gap."""

    unit: npt.NDArray[np.int64]
    cost: Integers
    fills: bool

    @property
    def units(self) -> int:
        return len(self.cost)

    @cached_property
    def _steps(self) -> npt.NDArray[np.int64]:
        """(N, K): units and rows of a block's candidates in the order of reading, in one number each."""
        numbers = self.unit.T << self._row_bits
        numbers |= np.arange(len(self.unit))
        return np.sort(numbers, axis=1)

    @property
    def _row_bits(self) -> int:
        return len(self.unit).bit_length()

    def steps(self) -> Iterator[tuple[slice, Integers, Integers]]:
        """Piece by piece of the block axis: which blocks (m of them), and the rows and units (K, m) of their
        candidates in the order of reading; unit -1, which is none, comes first."""
        step = max(PIECE_ENTRIES // max(len(self.unit), 1), 1)
        for start in range(0, self.unit.shape[1], step):
            piece = self._steps[start : start + step].T.copy()
            blocks = slice(start, start + piece.shape[1])
            yield blocks, piece & ((1 << self._row_bits) - 1), piece >> self._row_bits


def price(problem: Problem, unit: npt.NDArray[np.int64], fills: bool) -> Ordering:
    """Costs of an order. unit: (K, N) int64, 0-based without gaps, -1 where no candidate."""
    chosen = unit >= 0
    units = int(unit.max(initial=-1)) + 1
    # Costs are exact in float64 up to 2^53 bytes, which no sum here reaches.
    cost = np.bincount(unit[chosen], problem.frame_bytes[chosen], units)
    if problem.has_foreign:
        row, block = np.nonzero(chosen & (problem.foreign >= 0))
        where, number = unit[row, block], problem.foreign[row, block]
        by = np.lexsort((where, number, block))
        first = np.ones(len(by), bool)
        first[1:] = (np.diff(block[by]) != 0) | (np.diff(number[by]) != 0)
        payer = by[first]
        cost += np.bincount(where[payer], problem.foreign_bytes[row[payer], block[payer]], units)
    return Ordering(unit, np.rint(cost).astype(np.int64), fills)


def cut(ordering: Ordering, budget: int) -> Flags:
    """The units (U,) that a budget buys: greedily in order, passing over what does not fit any more.

    Where `fills` is not set it stops at the first that does not fit. Monotone: let z be the first unit that
    the larger budget takes and the smaller cannot. All the smaller buys from there on is worth less a byte
    than z and costs less than z. A unit whose predecessor in a block was passed over is passed over too, so
    that worths stay exact.
    """
    taken = np.zeros(ordering.units, bool)
    fit = int(np.searchsorted(np.cumsum(ordering.cost), budget, side="right"))
    taken[:fit] = True
    if not ordering.fills or fit == ordering.units:
        return taken
    left = budget - int(ordering.cost[:fit].sum())
    rest = np.arange(fit, ordering.units)
    row, block = np.nonzero(ordering.unit >= fit)
    unit = ordering.unit[row, block]
    barred_from = np.full(ordering.unit.shape[1], ordering.units)  # per block: the first unit passed over
    while len(rest):
        affordable = ordering.cost[rest] <= left
        passed = np.zeros(ordering.units, bool)
        passed[rest[~affordable]] = True
        hit = passed[unit]
        np.minimum.at(barred_from, block[hit], unit[hit])
        barred = np.zeros(ordering.units, bool)
        barred[unit[unit >= barred_from[block]]] = True
        rest = rest[affordable & ~barred[rest]]
        fit = int(np.searchsorted(np.cumsum(ordering.cost[rest]), left, side="right"))
        taken[rest[:fit]] = True
        left -= int(ordering.cost[rest[:fit]].sum())
        rest = rest[fit:]
        alive = np.zeros(ordering.units, bool)
        alive[rest] = True
        row, block, unit = _keep(alive[unit], row, block, unit)
    return taken


def selection(ordering: Ordering, taken: Flags) -> Flags:
    """(K, N): the candidates of the taken units."""
    padded = np.append(taken, False)  # unit -1 looks at the last
    flags: Flags = padded[ordering.unit]
    return flags


def trajectory(problem: Problem, ordering: Ordering) -> Floats:
    """Square of the certificate's bound after the first p units, for p = 0 .. U: (U + 1,) float64.

    inf while anything of unknown size is omitted. One pass: each block's candidates are sorted by unit, its
    error is evaluated after each, and the drops are added up from the end, where the bound is 0.
    """
    units, drops = [np.zeros(0, np.int64)], [np.zeros(0)]
    for blocks, row, unit in ordering.steps():
        error = problem.certificate.error_of(blocks)
        present = unit >= 0
        left = _left(problem, blocks, row)
        touched = np.concatenate([np.zeros((1, row.shape[1]), bool), present])
        squares = np.square(error(left, touched))
        units.append(unit[present])
        drops.append((squares[:-1] - squares[1:])[present])
    gains = np.bincount(np.concatenate(units), np.concatenate(drops), ordering.units)
    squares = np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]])
    unmeasured = problem.candidate & ~problem.known
    unmeasured |= problem.candidate & (problem.error > 0) & np.isnan(problem.grid.base_sq)
    last = int(ordering.unit[unmeasured].max(initial=-1))
    squares[: last + 1] = np.inf
    rising: Floats = np.maximum(squares, 0.0)
    return rising


def _left(problem: Problem, piece: slice, rows: Integers) -> Floats:
    """(K + 1, m): |what is omitted| of some blocks when all before it is read; rows: (K, m), in order."""
    sizes = np.take_along_axis(problem.error[:, piece], rows, axis=0)
    none = np.zeros((1, rows.shape[1]))
    if problem.certificate.products is None:
        return np.concatenate([np.cumsum(sizes[::-1], axis=0)[::-1], none])
    gram = problem.certificate.products.of(piece)
    blocks = np.arange(rows.shape[1])
    omitted = np.zeros((rows.shape[1], len(rows)))
    squares = [none[0]]
    for row in rows[::-1]:
        beside = np.einsum("nj,nj->n", gram[blocks, row], omitted)
        squares.append(squares[-1] + gram[blocks, row, row] + 2.0 * beside)
        omitted[blocks, row] = 1.0
    left: Floats = np.sqrt(np.maximum(np.stack(squares[::-1]), 0.0))
    return left


def _keep(flags: Flags, *arrays: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    return tuple(array[flags] for array in arrays)
