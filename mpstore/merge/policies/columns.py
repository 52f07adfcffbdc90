"""The choices that a policy orders, as columns: blocks one by one, or tensors that are all or nothing.

Relies on numpy and problem. Promises: pure; columns come in pieces that a core's own cache holds. Columns do
not touch each other until they are sorted, and matrices of a million entries would be fetched from memory at
every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.problem import Problem

_PIECE_ENTRIES: Final = 1 << 15
"""Experts times blocks of a piece: half a dozen float64 matrices of it take 1.5 MB. Half as much
would fit the cache better, and take a fifth longer: a step costs calls of numpy as well as what they do."""


@dataclass(frozen=True)
class Columns:
    """One piece of choices: C columns, each a run of blocks that are read together.

    blocks (M,) are indices on the block axis, column c owns blocks[starts[c]:starts[c + 1]]; `member` (K, C);
    `error` (K, M), zero outside; `cost` (K, C) without foreign bases. `single`: a column is a block.
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

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A value for each column (C,), as one for each block (M,)."""
        return values if self.single else values[self._column_of_block]

    def take(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The piece's blocks of an array whose last axis is the block axis."""
        return _take(values, self.blocks)

    @cached_property
    def _column_of_block(self) -> Integers:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def _take(values: npt.NDArray[Any], blocks: Integers) -> npt.NDArray[Any]:
    """A copy of some blocks; neighbours go faster."""
    if len(blocks) and int(blocks[-1]) - int(blocks[0]) == len(blocks) - 1:
        return values[..., int(blocks[0]) : int(blocks[-1]) + 1].copy()
    taken: npt.NDArray[Any] = values[..., blocks]
    return taken


def single_blocks(problem: Problem, grouped: Flags) -> Iterator[Columns]:
    """The blocks that can be chosen one by one: all candidates but those in `grouped` (K, N)."""
    free = problem.candidate & ~grouped
    everywhere = np.flatnonzero(free.any(axis=0))
    step = max(_PIECE_ENTRIES // max(problem.experts, 1), 1)
    for start in range(0, len(everywhere), step):
        blocks = everywhere[start : start + step]
        member = _take(free, blocks)
        error = _take(problem.error, blocks) * member
        cost = _take(problem.frame_bytes, blocks).astype(np.float64)
        yield Columns(blocks, np.arange(len(blocks) + 1), member, error, cost, single=True)


def whole_tensors(problem: Problem, grouped: Flags) -> Iterator[Columns]:
    """The tensors of which `grouped` (K, N) candidates are chosen all or nothing, foreign bases included."""
    wanted = np.flatnonzero(np.bincount(problem.tensor, grouped.any(axis=0), len(problem.grid.keys)))
    sizes = np.diff(problem.grid.offsets)[wanted]
    piece = np.cumsum(sizes) * problem.experts // _PIECE_ENTRIES
    for tensors in np.split(wanted, np.flatnonzero(np.diff(piece)) + 1):
        if len(tensors):
            yield _whole(problem, grouped, tensors)


def _whole(problem: Problem, grouped: Flags, tensors: Integers) -> Columns:
    offsets = problem.grid.offsets
    blocks = np.concatenate([np.arange(offsets[t], offsets[t + 1]) for t in tensors])
    starts = np.concatenate([[0], np.cumsum(np.diff(offsets)[tensors])])
    chosen = _take(grouped, blocks)
    error = _take(problem.error, blocks) * chosen
    bytes_ = (_take(problem.frame_bytes, blocks) + _take(problem.foreign_bytes, blocks)) * chosen
    member = np.add.reduceat(chosen, starts[:-1], axis=-1, dtype=np.int64) > 0
    cost = np.add.reduceat(bytes_, starts[:-1], axis=-1, dtype=np.float64)
    return Columns(blocks, starts, member, error, cost, single=False)
