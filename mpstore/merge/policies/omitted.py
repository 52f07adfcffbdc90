"""What is still omitted of every column while a path is walked, and what reading the next piece costs.

Relies on numpy, columns and problem. Promises: pure; the same bits on every machine (no matrix products).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpstore import kernels
from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.merge.policies.columns import Columns
from mpstore.merge.problem import Problem
from mpstore.merge.products import Products


@dataclass(frozen=True)
class Angles:
    """How the experts' deltas lie in a block: their inner products `known`, or else `similarity` (T, K, K),
    the cosines of a tensor, symmetric; neither: all parallel, which is the worst."""

    similarity: Floats | None = None
    known: Products | None = None


class Omitted(Protocol):
    """The sum of what is omitted, R, in each block. `norm` (M,) is |R|."""

    norm: Floats

    def worth(self) -> Floats:
        """(K, M): drop of |R|^2 when that expert is read next. The caller's to change."""

    def read(self, pick: Integers, active: Flags) -> None:
        """Take the picked expert (M,) of each active block (M,) out of the sum."""


def sum_of(problem: Problem, columns: Columns, angles: Angles) -> Omitted:
    """The sum before anything is read."""
    if angles.known is not None:
        return _Known(angles.known.of(columns.blocks))
    if angles.similarity is not None:
        return Estimated(columns, angles.similarity, problem.tensor[columns.blocks].astype(np.int64))
    return _Parallel(columns)


class _Parallel:
    """|R| is the sum of the norms, added up anew each time: the last must leave exactly 0."""

    def __init__(self, columns: Columns) -> None:
        self._error, self._left = columns.error, columns.error.copy()
        self._every = np.arange(columns.error.shape[1])
        self.norm: Floats = self._left.sum(axis=0)

    def worth(self) -> Floats:
        drop: Floats = np.subtract(2.0 * self.norm, self._error)
        drop *= self._error
        return drop

    def read(self, pick: Integers, active: Flags) -> None:
        self._left[pick[active], self._every[active]] = 0.0
        self.norm = self._left.sum(axis=0)


class _Angled:
    """Inner products are known or estimated. |R - x|^2 = |R|^2 - (2 <x, R> - |x|^2)."""

    def __init__(self, drop: Floats, square: Floats) -> None:
        self._square = np.maximum(square, 0.0)
        self._every = np.arange(drop.shape[1])
        self.norm: Floats = np.sqrt(self._square)
        self._drop = drop

    def _leave(self, drop: Floats) -> None:
        self._square = np.maximum(self._square - drop, 0.0)
        self.norm = np.sqrt(self._square)


class _Known(_Angled):
    def __init__(self, gram: Floats) -> None:
        self._gram = gram
        towards = gram.sum(axis=2).T
        own = np.einsum("mii->im", gram)
        super().__init__(2.0 * towards - own, towards.sum(axis=0))

    def worth(self) -> Floats:
        return self._drop.copy()

    def read(self, pick: Integers, active: Flags) -> None:
        self._leave(self._drop[pick, self._every] * active)
        taken = self._gram[self._every, pick]
        taken *= (2.0 * active)[:, None]
        self._drop -= taken.T


class Estimated(_Angled):
    """`drop` is over the expert's own |x|: 2 sum of S_ij |x_j| - |x_i|."""

    def __init__(self, columns: Columns, similarity: Floats, tensor: Integers) -> None:
        self._error, self.similarity, self.tensor = columns.error, similarity, tensor
        sums = np.empty(columns.error.shape)
        kernels.pick("greedy").towards(np.ascontiguousarray(columns.error), similarity, tensor, sums)
        towards = np.empty_like(columns.error)  # numpy rounds a sum by how an array lies in memory
        towards[:] = sums
        super().__init__(2.0 * towards - columns.error, (towards * columns.error).sum(axis=0))

    @property
    def drop(self) -> Floats:
        return self._drop

    @property
    def square(self) -> Floats:
        return self._square

    def worth(self) -> Floats:
        return self._drop * self._error

    def read(self, pick: Integers, active: Flags) -> None:
        size = self._error[pick, self._every] * active
        self._leave(self._drop[pick, self._every] * size)
        self._drop -= self.similarity[self.tensor, pick].T * (2.0 * size)


class Toll:
    """Running prices (K, C): a delta base that several experts share is paid by the first that is read.
    `cost` (K, C) has such bases in it; where any is `shared`, `number` (K, C) says which they are (-1: none)
    and `bytes` (K, C) what they cost."""

    def __init__(self, problem: Problem, columns: Columns) -> None:
        self.shared = columns.single and problem.has_foreign
        self.cost = columns.cost
        if self.shared:
            self.number = columns.take(problem.foreign)
            self.bytes = columns.take(problem.foreign_bytes)
            self.cost = columns.cost + self.bytes
        self.price = np.maximum(self.cost, 1.0)

    def pay(self, pick: Integers, active: Flags) -> None:
        """The picked expert (C,) of each active column is read: what it paid for costs the others nothing."""
        if not self.shared:
            return
        paid = self.number[pick, np.arange(len(pick))]
        same = (self.number == paid) & (paid >= 0) & active
        self.cost = self.cost - np.where(same, self.bytes, 0)
        self.bytes = np.where(same, 0, self.bytes)
        self.price = np.maximum(self.cost, 1.0)
