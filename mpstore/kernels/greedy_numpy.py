"""Greedy orders of reading, all columns at once (numpy reference).

Relies on numpy. Promises: the bits of `greedy_native`. Matrices have a row an expert (K) or a step (S), and a
column (M) a block that can be read of each expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Places: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Choices:
    """What can be read: `member` bool (K, M), `error` (K, M), `cost` (K, M) with shared bases; `similarity`
    (T, K, K), the cosines of each tensor, and each column's `tensor` int64 (M,). `number` int64 (K, M), the
    base that several may share (-1: none), and what it costs, `shared` (K, M); None: nobody shares any."""

    member: npt.NDArray[np.bool_]
    error: Floats
    cost: Floats
    similarity: Floats
    tensor: Integers
    number: Integers | None = None
    shared: Floats | None = None


def towards(error: Floats, similarity: Floats, tensor: Integers, out: Floats) -> None:
    """out[i] = sum over j, in order, of similarity[tensor, j, i] error[j]."""
    out[:] = 0.0
    for j, sizes in enumerate(error):
        out += similarity[tensor, j].T * sizes


def walk(choices: Choices, drop: Floats, square: Floats, path: Places, paid: Floats, norms: Floats) -> None:
    """Read the densest expert of each column, again and again, until path's steps are taken.

    Density is error times `drop` (K, M) over the price, max(cost, 1); of equal ones the first is read. `path`
    (S, M) gets the expert (-1: none is left), `paid` (S, M) its price (1.0: none), `norms` (S + 1, M) the
    root of `square` (M,), what is omitted, before and after each step.
    """
    cost, shared = choices.cost.copy(), None if choices.shared is None else choices.shared.copy()
    drop, square = drop.copy(), square.copy()
    every = np.arange(square.size)
    barred = np.where(choices.member, 0.0, -np.inf)
    norms[0] = np.sqrt(square)
    for step in range(len(path)):
        price = np.maximum(cost, 1.0)
        density = drop * choices.error / price + barred
        pick = np.argmax(density, axis=0)
        active = density[pick, every] > -np.inf
        path[step] = np.where(active, pick, -1)
        paid[step] = np.where(active, price[pick, every], 1.0)
        barred[pick, every] = -np.inf
        size = choices.error[pick, every] * active
        square = np.maximum(square - drop[pick, every] * size, 0.0)
        norms[step + 1] = np.sqrt(square)
        drop -= choices.similarity[choices.tensor, pick].T * (2.0 * size)
        if choices.number is not None and shared is not None:
            own = choices.number[pick, every]
            same = (choices.number == own) & (own >= 0) & active
            cost -= np.where(same, shared, 0.0)
            shared = np.where(same, 0.0, shared)


def hull(path: Places, gain: Floats, cost: Floats, segment: Places, segments: Integers) -> Floats:
    """Join steps (S, M) until densities, gain over cost, fall in every column.

    `segment` (S, M) gets the number of each step's segment in its column, `segments` (M,) how many there are.
    Returns their densities, column by column.
    """
    there = path >= 0
    density = gain / cost
    segment[:] = np.arange(len(path), dtype=np.int32)[:, None]
    segments[:] = there.sum(axis=0)
    rising = np.flatnonzero((there[1:] & (density[1:] > density[:-1])).any(axis=0))
    if len(rising):  # few columns where experts hardly overlap, all where they are taken as parallel
        segment[:, rising], density[:, rising], segments[rising] = _joined(
            there[:, rising], gain[:, rising], cost[:, rising]
        )
    falling: Floats = density.T[np.arange(len(path)) < segments[:, None]]
    return falling


def _joined(there: npt.NDArray[np.bool_], gain: Floats, cost: Floats) -> tuple[Places, Floats, Integers]:
    """Segment, density and number of segments: pool adjacent violators, in all columns at once. Each column
    has a stack of segments; `top` is where its last one lies in the flat arrays, whose rows are levels of the
    stacks."""
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


def enter_units(
    path: Places, segment: Places, starts: Integers, rank: Integers, blocks: Integers, unit: Integers
) -> None:
    """unit[path, blocks] = rank[starts + segment] of every step that is one; `unit` (K, N)."""
    step, at = np.nonzero(path >= 0)
    unit[path[step, at], blocks.take(at)] = rank.take(starts.take(at) + segment[step, at])
