"""From the paths of all columns to one order: units numbered by falling density.

Relies on numpy, columns and problem. Promises: pure; where densities are equal
units come in the order of their blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Floats, Integers
from mpstore.merge.policies.columns import Columns
from mpstore.merge.problem import Problem


@dataclass(frozen=True)
class Paths:
    """Steps of every column: order (R, C) the expert read at step r (-1: none), segment (R, C) the unit
    within the column, density (R, C) of each segment and `segments` (C,) how many there are."""

    order: npt.NDArray[np.int32]
    segment: npt.NDArray[np.int32]
    density: Floats
    segments: Integers


def number_units(problem: Problem, walked: list[tuple[Columns, Paths]]) -> npt.NDArray[np.int64]:
    """Sort the segments of all columns by falling density and number them: unit (K, N)."""
    exists = [np.arange(len(p.density))[:, None] < p.segments for _, p in walked]
    # Column by column, so that a stable sort keeps a path's order where densities are equal.
    densities = [p.density.T[e.T] for (_, p), e in zip(walked, exists, strict=True)]
    rank = np.empty(sum(map(len, densities)), np.int64)
    rank[_falling(np.concatenate([*densities, np.zeros(0)]))] = np.arange(len(rank))
    unit = np.full(problem.candidate.shape, -1, np.int64)
    begin = 0
    for (columns, paths), exist, density in zip(walked, exists, densities, strict=True):
        numbers = np.full(exist.shape, -1, np.int64)
        numbers.T[exist.T] = rank[begin : begin + len(density)]
        begin += len(density)
        _write(unit, problem, columns, paths, numbers)
    return unit


def _falling(values: Floats) -> Integers:
    """A stable argsort by falling value, as a sort of plain numbers, which takes a fifth of the time: the
    leading digits of a value above its index. Where leading digits do not tell, a second sort does."""
    bits = max(len(values) - 1, 1).bit_length()
    words = (0.0 - values).view(np.int64)  # never -0.0
    words ^= (words >> 63) & 0x7FFFFFFFFFFFFFFF  # as integers they are ordered as the values are
    words = np.sort((words >> bits << bits) | np.arange(len(values)))
    words &= (1 << bits) - 1
    rest = values[words]
    if (rest[1:] > rest[:-1]).any():
        words = words[np.argsort(-rest, kind="stable")]
    return words


def _write(
    unit: npt.NDArray[np.int64], problem: Problem, columns: Columns, paths: Paths, numbers: Integers
) -> None:
    """Each step's unit number to the blocks it reads."""
    for step, experts in enumerate(paths.order):
        at = np.flatnonzero(experts >= 0)
        number = numbers[paths.segment[step, at], at]
        if columns.single:
            unit[experts[at], columns.blocks[at]] = number
            continue
        for column, expert, value in zip(at, experts[at], number, strict=True):
            blocks = columns.blocks[columns.starts[column] : columns.starts[column + 1]]
            there = blocks[problem.candidate[expert, blocks]]
            unit[expert, there] = value
