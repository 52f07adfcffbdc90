"""An order of reading, what each step of it costs, and where a budget or an error limit cuts it.

Relies on numpy and problem. Promises: costs are upper bounds of the bytes the executor reads: every frame
with its header, once, and every foreign delta base once for each output block that needs it. Cutting is
monotone: a larger budget never leaves more of what the policy counts as error (see `cut`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.problem import Problem


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
    unit = np.where(problem.candidate, ordering.unit, -1)
    by = np.argsort(unit, axis=0, kind="stable")
    sorted_unit = np.take_along_axis(unit, by, axis=0)
    left = _left(problem, by)
    touched = np.concatenate([np.zeros((1, left.shape[1]), bool), sorted_unit >= 0])
    errors = np.stack([problem.certificate.block_errors(s, t) for s, t in zip(left, touched, strict=True)])
    drops = np.square(errors[:-1]) - np.square(errors[1:])
    present = sorted_unit >= 0
    gains = np.bincount(sorted_unit[present], drops[present], ordering.units)
    squares = np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]])
    unmeasured = problem.candidate & ~problem.known
    unmeasured |= problem.candidate & (problem.error > 0) & np.isnan(problem.grid.base_sq)
    last = int(ordering.unit[unmeasured].max(initial=-1))
    squares[: last + 1] = np.inf
    rising: Floats = np.maximum(squares, 0.0)
    return rising


def _left(problem: Problem, by: npt.NDArray[np.int64]) -> Floats:
    """(K + 1, N): |what is omitted| when everything sorted before is read. by: (K, N) rows in order."""
    sizes = np.take_along_axis(problem.error, by, axis=0)
    gram = problem.certificate.gram
    none = np.zeros((1, by.shape[1]))
    if gram is None:
        return np.concatenate([np.cumsum(sizes[::-1], axis=0)[::-1], none])
    blocks = np.arange(by.shape[1])
    omitted = np.zeros_like(sizes)
    squares = [none[0]]
    for row in by[::-1]:
        beside = np.einsum("nj,jn->n", gram[row, :, blocks], omitted)
        squares.append(squares[-1] + gram[row, row, blocks] + 2.0 * beside)
        omitted[row, blocks] = 1.0
    left: Floats = np.sqrt(np.maximum(np.stack(squares[::-1]), 0.0))
    return left


def _keep(flags: Flags, *arrays: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    return tuple(array[flags] for array in arrays)
