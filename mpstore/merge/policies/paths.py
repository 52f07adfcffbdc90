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
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.kernels.greedy_numpy import Choices
from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.policies.columns import Columns, single_blocks, whole_tensors
from mpstore.merge.policies.omitted import Angles, Estimated, Omitted, Toll, sum_of
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
    members = columns.member.sum(axis=0)
    steps = int(members.max(initial=0))
    omitted, toll, error = sum_of(problem, columns, angles), Toll(problem, columns), residual(columns)
    walked = _Walked.nowhere(steps, columns)
    if columns.single and isinstance(omitted, Estimated):
        choices = _choices(columns, omitted, toll)
        drop = np.ascontiguousarray(omitted.drop)
        kernels.pick("greedy").walk(choices, drop, omitted.square, walked.path, walked.cost, walked.norms)
        walked.touched[1:] = walked.path >= 0
        np.logical_or.accumulate(walked.touched, out=walked.touched)
    else:
        _step_by_step(columns, omitted, toll, walked)
    square = columns.total(error(walked.norms, walked.touched))
    square[1:][members <= np.arange(1, steps + 1)[:, None]] = 0.0
    segment, segments = np.empty_like(walked.path), np.empty(len(members), np.int64)
    gain = square[:-1] - square[1:]
    density = kernels.pick("greedy").hull(walked.path, gain, walked.cost, segment, segments)
    return Paths(walked.path, segment, density, segments)


@dataclass(frozen=True)
class _Walked:
    """Filled by a walk: `path` and `cost` (S, C), `norms` and `touched` (S + 1, M): |what is omitted| of each
    block and whether anything of it is read, before each step and after the last."""

    path: npt.NDArray[np.int32]
    cost: Floats
    norms: Floats
    touched: Flags

    @classmethod
    def nowhere(cls, steps: int, columns: Columns) -> _Walked:
        path = np.full((steps, columns.member.shape[1]), -1, np.int32)
        norms = np.zeros((steps + 1, len(columns.blocks)))
        return cls(path, np.ones(path.shape), norms, np.zeros(norms.shape, np.bool_))


def _choices(columns: Columns, omitted: Estimated, toll: Toll) -> Choices:
    """As the kernel takes them."""
    return Choices(
        member=np.ascontiguousarray(columns.member),
        error=np.ascontiguousarray(columns.error),
        cost=np.ascontiguousarray(toll.cost),
        similarity=omitted.similarity,
        tensor=omitted.tensor,
        number=np.ascontiguousarray(toll.number) if toll.shared else None,
        shared=np.ascontiguousarray(toll.bytes, np.float64) if toll.shared else None,
    )


def _step_by_step(columns: Columns, omitted: Omitted, toll: Toll, walked: _Walked) -> None:
    """A walk whatever the sum and the columns."""
    count = columns.member.shape[1]
    barred = np.where(columns.member, 0.0, -np.inf)
    ranks = np.arange(len(barred), 0, -1, dtype=np.min_scalar_type(len(barred)))[:, None]
    walked.norms[0] = omitted.norm
    everywhere = np.arange(count)
    for step in range(len(walked.path)):
        density = columns.total(omitted.worth())
        density /= toll.price
        density += barred
        best = density.max(axis=0)
        pick, active = _first(density == best, ranks), best > -np.inf
        at = pick * count + everywhere  # in a matrix as one long row, which is quicker to take from
        walked.path[step] = np.where(active, pick, -1)
        walked.cost[step] = np.where(active, toll.price.take(at), 1.0)
        barred.put(at, -np.inf)
        walked.touched[step + 1] = walked.touched[step] | columns.spread(active)
        omitted.read(columns.spread(pick), columns.spread(active))
        toll.pay(pick, active)
        walked.norms[step + 1] = omitted.norm


def _first(flags: Flags, ranks: npt.NDArray[np.unsignedinteger[Any]]) -> Integers:
    """The first row that is set of every column (at least one is): argmax, but row by row, which is faster
    where rows are few and long. `ranks` (R, 1) count down to 1."""
    best = (flags.view(np.uint8) * ranks).max(axis=0, initial=0)
    first: Integers = len(flags) - best.astype(np.int64)
    return first
