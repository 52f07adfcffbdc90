"""`uniform`, `per-layer`, `random` and `whole-tensor`: orders to compare with, and for when norms mislead.

Relies on paths and numpy. Promises: pure; `random` is a hash of (seed, expert's manifest, block), the same on
every machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.merge import layers
from mpstore.merge.plan_inputs import Floats
from mpstore.merge.policies import paths
from mpstore.merge.policies.columns import Columns
from mpstore.merge.policies.norms import NORMS
from mpstore.merge.policies.omitted import Angles
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.problem import Problem

_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)


def _hash(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A well mixed 64-bit word of each word (the finalizer of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def _draws(problem: Problem) -> npt.NDArray[np.uint64]:
    """(K, N): one hash for each expert and block."""
    blocks = np.arange(problem.grid.blocks, dtype=np.uint64)
    rows = []
    for row, key in enumerate(problem.keys):
        start = int.from_bytes(key[:8], "little") ^ (problem.seed & int(_MASK)) ^ row
        rows.append(_hash(_hash(np.array([start], np.uint64)) ^ _hash(blocks)))
    return np.stack(rows) if rows else np.zeros((0, problem.grid.blocks), np.uint64)


def by_key(problem: Problem, key: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Number candidates by ascending key (K, N); a tensor that is all or nothing stands where its first
    block does."""
    row, block = np.nonzero(problem.candidate)
    value = key[row, block]
    rank = np.empty(len(row), np.int64)
    rank[np.lexsort((row, block, value))] = np.arange(len(row))
    together = problem.grouped[row, block]
    if together.any():
        group = row * len(problem.grid.keys) + problem.tensor[block]
        first = np.full(problem.experts * len(problem.grid.keys), len(row))
        np.minimum.at(first, group[together], rank[together])
        rank[together] = first[group[together]]
    unit = np.full(problem.candidate.shape, -1, np.int64)
    unit[row, block] = np.unique(rank, return_inverse=True)[1]
    return unit


def _random(problem: Problem) -> npt.NDArray[np.int64]:
    return by_key(problem, _draws(problem))


def _share(problem: Problem, order: npt.NDArray[np.generic], group: npt.NDArray[np.int64]) -> Floats:
    """(K, N): what share of its group's bytes stands before each candidate's middle, in the given order."""
    row, block = np.nonzero(problem.candidate)
    cost = problem.frame_bytes[row, block].astype(np.float64)
    groups = group[row, block]
    by = np.lexsort((row, block, order[row, block], groups))
    running = np.cumsum(cost[by])
    total = np.bincount(groups, cost, int(groups.max(initial=-1)) + 1)
    before = np.concatenate([[0.0], np.cumsum(total)])[groups[by]]
    share = np.zeros(problem.candidate.shape)
    share[row[by], block[by]] = (running - before - cost[by] / 2) / np.maximum(total[groups[by]], 1.0)
    return share


def _uniform(problem: Problem) -> npt.NDArray[np.int64]:
    """The same share of every tensor of every expert, its blocks spread evenly."""
    tensors = len(problem.grid.keys)
    group = np.arange(problem.experts)[:, None] * tensors + problem.tensor[None, :].astype(np.int64)
    return by_key(problem, _share(problem, _draws(problem), group))


def _layer(key: str) -> str:
    """The layer a tensor belongs to; tensors outside the layers stand for themselves."""
    found = layers.layered(key)
    return key if found is None else f"{found.prefix}{found.index}"


def _per_layer(problem: Problem) -> npt.NDArray[np.int64]:
    """The same share of every layer; within it, what `norms` would read first."""
    names = [_layer(key) for key in problem.grid.keys]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    layer = np.array([number[name] for name in names], np.int64)[problem.tensor]
    order = NORMS.order(problem)
    if int(order.max(initial=-1)) < 0:
        return order  # there is nothing to read
    share = _share(problem, order, np.broadcast_to(layer, order.shape))
    # Units that `norms` reads together stay together.
    ranked = np.full(int(order.max(initial=-1)) + 1, np.inf)
    there = order >= 0
    np.minimum.at(ranked, order[there], share[there])
    return by_key(problem, np.where(there, ranked[order], np.inf))


def _whole_tensor(problem: Problem) -> npt.NDArray[np.int64]:
    """Whole tensors by value density: what merging without block statistics amounts to."""

    def residual(columns: Columns) -> paths.Error:
        error = problem.certificate.error_of(columns.blocks)
        return lambda omitted, touched: np.square(error(omitted, touched))

    return paths.order(problem, Angles(known=problem.certificate.products), residual, problem.candidate)


UNIFORM = Policy("uniform", "the same share of every tensor of every expert", _uniform)
PER_LAYER = Policy("per-layer", "the same share of every layer, the densest blocks of each", _per_layer)
RANDOM = Policy("random", "blocks in the order of a seeded hash", _random)
WHOLE_TENSOR = Policy(
    "whole-tensor", "whole tensors by certified squared error removed per byte", _whole_tensor
)
