"""Greedy paths: for every block at once, in which order its experts are worth reading, and at what density.

Relies on numpy, columns, omitted, units and problem. Promises: units come out in order of falling density
(squared error removed per byte); within a block (or a tensor that is all or nothing) a unit's worth counts
what is read before it. Where a later read would be denser than an earlier one (a shared delta base, a block
that rounds only while it is incomplete) the two become one unit, so densities fall along every path: the
upper hull of (bytes, worth).

The pieces of one block interact: its error is |sum of omitted lambda_i Delta_i|. `omitted.Angles` say how.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.policies.columns import Columns, single_blocks, whole_tensors
from mpstore.merge.policies.omitted import Angles, Toll, sum_of
from mpstore.merge.policies.units import Paths, number_units
from mpstore.merge.problem import Problem

Error = Callable[[Floats, Flags], Floats]
"""(|omitted|, touched) -> squared error, (steps, M) each."""
Residual = Callable[[Columns], Error]


def order(problem: Problem, angles: Angles, residual: Residual, grouped: Flags) -> npt.NDArray[np.int64]:
    """unit (K, N) by falling density; of the candidates in `grouped` (K, N) tensors are all or nothing."""
    pieces = chain(single_blocks(problem, grouped), whole_tensors(problem, grouped))
    return number_units(problem, [(piece, walk(problem, piece, angles, residual)) for piece in pieces])


def walk(problem: Problem, columns: Columns, angles: Angles, residual: Residual) -> Paths:
    """The greedy path of every column."""
    count = columns.member.shape[1]
    members = columns.member.sum(axis=0)
    steps = int(members.max(initial=0))
    omitted, toll, error = sum_of(problem, columns, angles), Toll(problem, columns), residual(columns)
    barred = np.where(columns.member, 0.0, -np.inf)
    ranks = np.arange(len(barred), 0, -1, dtype=np.min_scalar_type(len(barred)))[:, None]
    norms = np.zeros((steps + 1, len(columns.blocks)))
    touched = np.zeros(norms.shape, bool)
    norms[0] = omitted.norm
    path = np.full((steps, count), -1, np.int32)
    cost = np.ones((steps, count))
    everywhere = np.arange(count)
    for step in range(steps):
        density = columns.total(omitted.worth())
        density /= toll.price
        density += barred
        best = density.max(axis=0)
        pick, active = _first(density == best, ranks), best > -np.inf
        at = pick * count + everywhere  # in a matrix as one long row, which is quicker to take from
        path[step] = np.where(active, pick, -1)
        cost[step] = np.where(active, toll.price.take(at), 1.0)
        barred.put(at, -np.inf)
        touched[step + 1] = touched[step] | columns.spread(active)
        omitted.read(columns.spread(pick), columns.spread(active))
        toll.pay(pick, active)
        norms[step + 1] = omitted.norm
    square = columns.total(error(norms, touched))
    square[1:][members <= np.arange(1, steps + 1)[:, None]] = 0.0
    return _hull(path, square[:-1] - square[1:], cost)


def _first(flags: Flags, ranks: npt.NDArray[np.unsignedinteger[Any]]) -> Integers:
    """The first row that is set of every column (at least one is): argmax, but row by row, which is faster
    where rows are few and long. `ranks` (R, 1) count down to 1."""
    best = (flags.view(np.uint8) * ranks).max(axis=0, initial=0)
    first: Integers = len(flags) - best.astype(np.int64)
    return first


def _hull(path: npt.NDArray[np.int32], gain: Floats, cost: Floats) -> Paths:
    """Join steps until densities fall in every column."""
    there = path >= 0
    density = gain / cost
    segment = np.broadcast_to(np.arange(len(path), dtype=np.int32)[:, None], path.shape).copy()
    segments = there.sum(axis=0)
    rising = np.flatnonzero((there[1:] & (density[1:] > density[:-1])).any(axis=0))
    if len(rising):  # few columns where experts hardly overlap, all where they are taken as parallel
        segment[:, rising], density[:, rising], segments[rising] = _joined(
            there[:, rising], gain[:, rising], cost[:, rising]
        )
    return Paths(path, segment, density, segments)


def _joined(there: Flags, gain: Floats, cost: Floats) -> tuple[npt.NDArray[np.int32], Floats, Integers]:
    """Segment, density and number of segments, as `Paths` has them: pool adjacent violators, in all columns
    at once. Each column has a stack of segments; `top` is where its last one lies in the flat arrays, whose
    rows are levels of the stacks."""
    steps, count = there.shape
    top = np.arange(count) - count
    worth, price = np.zeros(steps * count), np.ones(steps * count)
    first = np.zeros(steps * count, np.int64)  # where the segment's first step lies in `starts`
    starts = np.zeros(steps * count, np.int32)
    for step in range(steps):
        at = np.flatnonzero(there[step])
        last = top[at] + count
        worth[last], price[last], first[last] = gain[step, at], cost[step, at], step * count + at
        starts[step * count + at] = 1
        top[at] = last
        while len(at):
            if int(last.min()) < count:
                at = at[last >= count]
                last = top[at]
            before = last - count
            worths, prices = worth.take(last), price.take(last)
            rising = np.flatnonzero(worths * price.take(before) > worth.take(before) * prices)
            at, last, before = at[rising], last[rising], before[rising]
            worth[before] += worths[rising]
            price[before] += prices[rising]
            starts[first[last]] = 0
            top[at] = last = before
    segment = np.cumsum(starts.reshape(steps, count), axis=0, dtype=np.int32) - 1
    return segment, (worth / price).reshape(steps, count), top // count + 1
