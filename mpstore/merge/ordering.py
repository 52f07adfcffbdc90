"""An order of reading, what each step of it costs, and where a budget or an error limit cuts it.

Relies on numpy and problem. Promises: costs are upper bounds of the bytes the executor reads: every frame
with its header, once, and every foreign delta base once for each output block that needs it. Cutting is
monotone: a larger budget never leaves more of what the policy counts as error (see `cut`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.kernels.omission_numpy import Reading
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
        numbers = self.unit << self._row_bits
        numbers |= np.arange(len(self.unit))[:, None]
        steps = np.ascontiguousarray(numbers.T)
        steps.sort(axis=1)
        return steps

    @property
    def _row_bits(self) -> int:
        return len(self.unit).bit_length()

    def reading(self, error: Floats) -> Reading:
        """The candidates of each block in the order of reading; `error` (K, N)."""
        piece = max(PIECE_ENTRIES // max(len(self.unit), 1), 1)
        return Reading(self._steps, self._row_bits, np.ascontiguousarray(error), piece)


def price(problem: Problem, unit: npt.NDArray[np.int64], fills: bool) -> Ordering:
    """Costs of an order. unit: (K, N) int64, 0-based without gaps, -1 where no candidate."""
    units = int(unit.max(initial=-1)) + 1
    cost = kernels.pick("omission").unit_costs(unit, problem.frame_bytes, units)
    if problem.has_foreign:
        row, block = np.nonzero((unit >= 0) & (problem.foreign >= 0))
        where, number = unit[row, block], problem.foreign[row, block]
        by = np.lexsort((where, number, block))
        first = np.ones(len(by), bool)
        first[1:] = (np.diff(block[by]) != 0) | (np.diff(number[by]) != 0)
        payer = by[first]
        np.add.at(cost, where[payer], problem.foreign_bytes[row[payer], block[payer]])
    return Ordering(unit, cost, fills)


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
    row, block = np.zeros(0, np.int64), np.zeros(0, np.int64)
    unit, barred_from = row, np.zeros(0, np.int64)  # per block: the first unit passed over
    while len(rest):
        affordable = ordering.cost[rest] <= left
        passed = _flags(ordering.units, rest[~affordable])
        alive = _flags(ordering.units, rest[affordable])
        if not len(barred_from):  # hardly any of what is left can be afforded, so it is not taken apart first
            barred_from = np.where(passed.take(ordering.unit), ordering.unit, ordering.units).min(axis=0)
            row, block = np.nonzero(alive.take(ordering.unit))
            unit = ordering.unit[row, block]
        else:
            hit = passed[unit]
            np.minimum.at(barred_from, block[hit], unit[hit])
        barred = _flags(ordering.units, unit[unit >= barred_from[block]])
        rest = rest[affordable & ~barred[rest]]
        fit = int(np.searchsorted(np.cumsum(ordering.cost[rest]), left, side="right"))
        taken[rest[:fit]] = True
        left -= int(ordering.cost[rest[:fit]].sum())
        rest = rest[fit:]
        row, block, unit = _keep(_flags(ordering.units, rest)[unit], row, block, unit)
    return taken


def _flags(units: int, chosen: Integers) -> Flags:
    """(units + 1,): which are chosen; the last is of unit -1, which is none."""
    flags = np.zeros(units + 1, np.bool_)
    flags[chosen] = True
    return flags


def selection(ordering: Ordering, taken: Flags) -> Flags:
    """(K, N): the candidates of the taken units."""
    padded = np.append(taken, False)  # unit -1 looks at the last
    flags: Flags = padded.take(ordering.unit)
    return flags


def trajectory(problem: Problem, ordering: Ordering) -> Floats:
    """Square of the certificate's bound after the first p units, for p = 0 .. U: (U + 1,) float64.

    inf while anything of unknown size is omitted. One pass: each block's candidates are sorted by unit, its
    error is evaluated after each, and the drops are added up from the end, where the bound is 0.
    """
    gains = np.zeros(ordering.units)
    if problem.certificate.products is None:
        terms = map(np.ascontiguousarray, problem.certificate.terms)
        kernels.pick("omission").certified_drops(ordering.reading(problem.error), *terms, gains)
    else:
        _add_drops(problem, ordering, gains)
    squares = np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]])
    unmeasured = problem.candidate & ~problem.known
    unmeasured |= problem.candidate & (problem.error > 0) & np.isnan(problem.grid.base_sq)
    last = int(ordering.unit[unmeasured].max(initial=-1))
    squares[: last + 1] = np.inf
    rising: Floats = np.maximum(squares, 0.0)
    return rising


def _add_drops(problem: Problem, ordering: Ordering, gains: Floats) -> None:
    """What `omission.certified_drops` does, where inner products are known."""
    for blocks, row, unit, _ in ordering.reading(problem.error).pieces():
        present = unit >= 0
        left = _left(problem, blocks, row)
        touched = np.concatenate([np.zeros((1, row.shape[1]), bool), present])
        squares = np.square(problem.certificate.error_of(blocks)(left, touched))
        np.add.at(gains, unit[present], (squares[:-1] - squares[1:])[present])


def _left(problem: Problem, piece: slice, rows: Integers) -> Floats:
    """(K + 1, m): |what is omitted| of some blocks when all before it is read; rows: (K, m), in order."""
    assert problem.certificate.products is not None
    gram = problem.certificate.products.of(piece)
    blocks = np.arange(rows.shape[1])
    omitted = np.zeros((rows.shape[1], len(rows)))
    squares = [np.zeros(rows.shape[1])]
    for row in rows[::-1]:
        beside = np.einsum("nj,nj->n", gram[blocks, row], omitted)
        squares.append(squares[-1] + gram[blocks, row, row] + 2.0 * beside)
        omitted[blocks, row] = 1.0
    left: Floats = np.sqrt(np.maximum(np.stack(squares[::-1]), 0.0))
    return left


def _keep(flags: Flags, *arrays: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    return tuple(array[flags] for array in arrays)
