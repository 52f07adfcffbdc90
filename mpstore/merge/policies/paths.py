"""Greedy paths: for every block at once, in which order its experts are worth reading, and at what density.

Relies on numpy and problem. Promises: units come out in order of falling density (squared error removed per
byte); within a block (or a tensor that is all or nothing) a unit's worth counts what is read before it. Where
a later read would be denser than an earlier one (a shared delta base, a block that rounds only while it is
incomplete) the two become one unit, so densities fall along every path: the upper hull of (bytes, worth).

The pieces of one block interact: its error is |sum of omitted lambda_i Delta_i|. `Angles` say how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.problem import Problem

Residual = Callable[["Columns", Floats, Flags], Floats]
"""(columns, |omitted| per block, touched per block) -> squared error per block."""


@dataclass(frozen=True)
class Columns:
    """One family of choices: C columns, each a run of blocks that are read together.

    blocks (M,) are indices on the block axis, column c owns blocks[starts[c]:starts[c + 1]]; `member` (K, C);
    `error` (K, M), zero outside; `cost` (K, C) without foreign bases.
    """

    blocks: Integers
    starts: Integers
    member: Flags
    error: Floats
    cost: Floats
    single: bool

    def total(self, values: Floats) -> Floats:
        """Sum over each column's blocks, along the last axis."""
        if self.single:
            return values
        sums: Floats = np.add.reduceat(values, self.starts[:-1], axis=-1)
        return sums

    @property
    def column_of_block(self) -> Integers:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def single_blocks(problem: Problem) -> Columns:
    """The blocks that can be chosen one by one."""
    member = problem.candidate & ~problem.grouped
    blocks = np.flatnonzero(member.any(axis=0))
    member = member[:, blocks]
    error = np.where(member, problem.error[:, blocks], 0.0)
    cost = problem.frame_bytes[:, blocks].astype(np.float64)
    return Columns(blocks, np.arange(len(blocks) + 1), member, error, cost, single=True)


def whole_tensors(problem: Problem, grouped: Flags) -> Columns:
    """The tensors of which `grouped` (K, N) candidates are chosen all or nothing, foreign bases included."""
    wanted = np.bincount(problem.tensor, grouped.any(axis=0), len(problem.grid.keys)) > 0
    blocks = np.flatnonzero(wanted[problem.tensor])
    starts = np.concatenate([[0], np.cumsum(np.diff(problem.grid.offsets)[wanted])])
    error = np.where(grouped, problem.error, 0.0)[:, blocks]
    bytes_ = np.where(grouped, problem.frame_bytes + problem.foreign_bytes, 0)[:, blocks].astype(np.float64)
    columns = Columns(blocks, starts, np.zeros((0, 0), bool), error, bytes_, single=False)
    member = columns.total(grouped[:, blocks].astype(np.float64)) > 0
    return Columns(blocks, starts, member, error, columns.total(bytes_), single=False)


@dataclass(frozen=True)
class Paths:
    """Steps of every column: order (R, C) the expert read at step r (-1: none), segment (R, C) the unit
    within the column, density (R, C) of each segment and `segments` (C,) how many there are."""

    order: npt.NDArray[np.int64]
    segment: npt.NDArray[np.int64]
    density: Floats
    segments: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Angles:
    """How the experts' deltas lie in a block: `gram` (K, K, N) their inner products, or else `similarity`
    (T, K, K) the cosines of a tensor; neither: all parallel, which is the worst."""

    similarity: Floats | None = None
    gram: Floats | None = None


def walk(problem: Problem, columns: Columns, angles: Angles, residual: Residual) -> Paths:
    """The greedy path of every column."""
    count = columns.member.shape[1]
    steps = int(columns.member.sum(axis=0).max(initial=0))
    omitted = _Omitted(problem, columns, angles)
    toll = _Toll(problem, columns)
    left = columns.member.copy()
    touched = np.zeros(len(columns.blocks), bool)
    order = np.full((steps, count), -1, np.int64)
    cost = np.ones((steps, count))
    square = np.zeros((steps + 1, count))
    square[0] = columns.total(residual(columns, omitted.norm(), touched))
    everywhere = np.arange(count)
    for step in range(steps):
        price = np.maximum(toll.cost, 1.0)
        density = np.where(left, columns.total(omitted.worth()) / price, -np.inf)
        pick = np.argmax(density, axis=0)
        active = left[pick, everywhere]
        order[step] = np.where(active, pick, -1)
        cost[step] = np.where(active, price[pick, everywhere], 1.0)
        left[pick, everywhere] = False
        touched |= active if columns.single else active[columns.column_of_block]
        omitted.read(pick, active)
        toll.pay(pick, active)
        remaining = np.where(left.any(axis=0), columns.total(residual(columns, omitted.norm(), touched)), 0.0)
        square[step + 1] = remaining
    return _hull(order, square[:-1] - square[1:], cost)


class _Omitted:
    """Running state: what is still omitted in each block. `_towards` (K, M) are the inner products of each
    expert's term with the sum of the omitted ones."""

    def __init__(self, problem: Problem, columns: Columns, angles: Angles) -> None:
        self._columns, self._angles = columns, angles
        self._every = np.arange(len(columns.blocks))
        self._left = columns.error > 0
        self._tensor = problem.tensor[columns.blocks]
        error = columns.error
        self._squares: Floats = np.square(error)
        if angles.gram is not None:
            self._gram = angles.gram[:, :, columns.blocks]
            self._towards: Floats = np.einsum("ijm,jm->im", self._gram, self._left.astype(np.float64))
        elif angles.similarity is not None:
            self._towards = np.zeros_like(error)
            for j, other in enumerate(error):
                self._towards += angles.similarity[:, :, j].T[:, self._tensor] * (error * other)

    def worth(self) -> Floats:
        """(K, M): drop of |omitted|^2 when that expert is read next."""
        if self._parallel:
            return self._columns.error * (2.0 * self.norm() - self._columns.error)
        drop: Floats = 2.0 * self._towards - self._squares
        return drop

    def norm(self) -> Floats:
        """(M,): |omitted|."""
        if self._parallel:  # summed anew each time: the last must leave exactly 0
            total: Floats = np.where(self._left, self._columns.error, 0.0).sum(axis=0)
            return total
        norm: Floats = np.sqrt(np.maximum(np.where(self._left, self._towards, 0.0).sum(axis=0), 0.0))
        return norm

    @property
    def _parallel(self) -> bool:
        return self._angles.gram is None and self._angles.similarity is None

    def read(self, pick: npt.NDArray[np.int64], active: Flags) -> None:
        """Take the picked expert of each active column out."""
        columns = self._columns
        if not columns.single:
            pick, active = pick[columns.column_of_block], active[columns.column_of_block]
        active = active & self._left[pick, self._every]
        self._left[pick[active], self._every[active]] = False
        if self._angles.gram is not None:
            self._towards -= self._gram[:, pick, self._every] * active
        elif self._angles.similarity is not None:
            size = np.where(active, columns.error[pick, self._every], 0.0)
            self._towards -= self._angles.similarity[self._tensor, :, pick].T * (columns.error * size)


class _Toll:
    """Running costs: a delta base that several experts share is paid by the first that is read."""

    def __init__(self, problem: Problem, columns: Columns) -> None:
        self.cost = columns.cost
        self._shared = columns.single and problem.has_foreign
        if self._shared:
            self._number = problem.foreign[:, columns.blocks]
            self._bytes = problem.foreign_bytes[:, columns.blocks]
            self.cost = columns.cost + self._bytes

    def pay(self, pick: npt.NDArray[np.int64], active: Flags) -> None:
        if not self._shared:
            return
        paid = self._number[pick, np.arange(len(pick))]
        same = (self._number == paid) & (paid >= 0) & active
        self.cost = self.cost - np.where(same, self._bytes, 0)
        self._bytes = np.where(same, 0, self._bytes)


def _hull(order: npt.NDArray[np.int64], gain: Floats, cost: Floats) -> Paths:
    """Join steps until densities fall: pool adjacent violators, in all columns at once."""
    steps, count = order.shape
    top = np.full(count, -1)
    worth, price = np.zeros((steps, count)), np.ones((steps, count))
    first = np.zeros((steps, count), np.int64)
    starts = np.zeros((steps, count), np.int64)
    for step in range(steps):
        at = np.flatnonzero(order[step] >= 0)
        top[at] += 1
        level = top[at]
        worth[level, at], price[level, at], first[level, at] = gain[step, at], cost[step, at], step
        starts[step, at] = 1
        while len(at):
            at = at[top[at] > 0]
            level = top[at]
            rising = worth[level, at] * price[level - 1, at] > worth[level - 1, at] * price[level, at]
            at, level = at[rising], level[rising]
            worth[level - 1, at] += worth[level, at]
            price[level - 1, at] += price[level, at]
            starts[first[level, at], at] = 0
            top[at] -= 1
    return Paths(order, np.cumsum(starts, axis=0) - 1, worth / price, top + 1)


def number_units(problem: Problem, families: list[tuple[Columns, Paths]]) -> npt.NDArray[np.int64]:
    """Sort the segments of all columns by falling density and number them: unit (K, N)."""
    exists = [np.arange(len(p.density))[:, None] < p.segments for _, p in families]
    # Column by column, so that a stable sort keeps a path's order where densities are equal.
    densities = [p.density.T[e.T] for (_, p), e in zip(families, exists, strict=True)]
    rank = np.empty(sum(map(len, densities)), np.int64)
    rank[np.argsort(-np.concatenate(densities), kind="stable")] = np.arange(len(rank))
    unit = np.full(problem.candidate.shape, -1, np.int64)
    begin = 0
    for (columns, paths), exist in zip(families, exists, strict=True):
        numbers = np.full(exist.shape, -1, np.int64)
        numbers.T[exist.T] = rank[begin : begin + int(exist.sum())]
        begin += int(exist.sum())
        _spread(unit, problem, columns, paths, numbers)
    return unit


def _spread(
    unit: npt.NDArray[np.int64],
    problem: Problem,
    columns: Columns,
    paths: Paths,
    numbers: npt.NDArray[np.int64],
) -> None:
    """Write each step's unit number to the blocks it reads."""
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
