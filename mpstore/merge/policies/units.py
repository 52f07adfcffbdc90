"""From the paths of all columns to one order: units numbered by falling density.

Relies on numpy, columns and problem. Promises: pure; where densities are equal
units come in the order of their blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.merge.plan_inputs import Floats, Integers
from mpstore.merge.policies.columns import Columns
from mpstore.merge.problem import Problem


@dataclass(frozen=True)
class Paths:
    """Steps of every column: order (R, C) the expert read at step r (-1: none), segment (R, C) the unit
    within the column, how many `segments` (C,) each has and their `density`, column by column."""

    order: npt.NDArray[np.int32]
    segment: npt.NDArray[np.int32]
    density: Floats
    segments: Integers


def number_units(problem: Problem, walked: list[tuple[Columns, Paths]]) -> npt.NDArray[np.int64]:
    """Sort the segments of all columns by falling density and number them: unit (K, N)."""
    # Column by column, so that a stable sort keeps a path's order where densities are equal.
    densities = np.concatenate([np.zeros(0), *(paths.density for _, paths in walked)])
    rank = kernels.pick("ranks").ranks(densities)
    unit = np.full(problem.candidate.shape, -1, np.int64)
    begin = 0
    for columns, paths in walked:
        starts = begin + np.cumsum(paths.segments) - paths.segments
        begin += int(paths.segments.sum())
        _write(unit, problem, columns, paths, rank, starts)
    return unit


def _write(
    unit: npt.NDArray[np.int64],
    problem: Problem,
    columns: Columns,
    paths: Paths,
    rank: Integers,
    starts: Integers,
) -> None:
    """Each step's unit number to the blocks it reads; a column's units are `rank` from its `starts` on."""
    if columns.single:
        kernel = kernels.pick("greedy")
        kernel.enter_units(paths.order, paths.segment, starts, rank, columns.blocks, unit)
        return
    step, at = np.nonzero(paths.order >= 0)
    experts = paths.order[step, at]
    numbers = rank.take(starts.take(at) + paths.segment[step, at])
    for column, expert, value in zip(at, experts, numbers, strict=True):
        blocks = columns.blocks[columns.starts[column] : columns.starts[column + 1]]
        there = blocks[problem.candidate[expert, blocks]]
        unit[expert, there] = value
