"""The planner's problem: the inputs as (experts, blocks) matrices, in an order that no recipe shows in.

Relies on numpy, plan_inputs and certificate. Promises: pure; experts are ordered by manifest id, so that ties
fall the same way however the recipe lists them; sizes that nobody knows are estimated from those known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.merge import angles
from mpstore.merge.certificate import Certificate
from mpstore.merge.plan_inputs import ExpertColumns, Flags, Floats, Grid, Integers, PlanInputs, Sketches
from mpstore.merge.products import Products, Terms


@dataclass(frozen=True)
class Problem:
    """What a policy orders.

    Rows are experts in canonical order: row r is expert `rows[r]` of the inputs. (K, N): `candidate`, `known`
    (its size is a fact), `error` = |lambda| |delta| (estimated where not known), `frame_bytes`, `foreign`,
    `foreign_bytes` as in `ExpertColumns`. (K, T): `whole`, `sign`. `terms`: what inner products are made of,
    where any are known.
    """

    grid: Grid
    rows: tuple[int, ...]
    keys: tuple[bytes, ...]
    candidate: Flags
    known: Flags
    error: Floats
    frame_bytes: Integers
    foreign: Integers
    foreign_bytes: Integers
    whole: Flags
    sign: Floats
    sketches: tuple[Sketches | None, ...]
    terms: Terms | None
    certificate: Certificate
    seed: int

    @property
    def experts(self) -> int:
        return len(self.rows)

    @cached_property
    def tensor(self) -> npt.NDArray[np.int32]:
        """Tensor index of every block."""
        return self.grid.tensor_of_block

    @cached_property
    def grouped(self) -> Flags:
        """(K, N): candidates that are selected with their whole tensor or not at all."""
        flags: Flags = self.candidate & self.whole[:, self.tensor]
        return flags

    @cached_property
    def cosines(self) -> Floats:
        """(T, K, K): see `angles.cosines`."""
        return angles.cosines(self.grid, self.error, self.sign, self.sketches)

    @cached_property
    def expected_products(self) -> Products | None:
        """Inner products where some are known, what the cosines lead to expect for the others."""
        if self.terms is None or self.certificate.products is None:
            return None
        if self.certificate.products.complete:
            return self.certificate.products
        return self.terms.products(self.cosines, self.tensor)

    @cached_property
    def has_foreign(self) -> bool:
        return bool((self.candidate & (self.foreign >= 0)).any())


def build(inputs: PlanInputs) -> Problem:
    """The problem that `inputs` pose."""
    grid = inputs.grid
    rows = tuple(sorted(range(len(inputs.experts)), key=lambda i: _rank(inputs, i)))
    experts = [inputs.experts[i] for i in rows]
    tensor = grid.tensor_of_block
    shape = (len(rows), grid.blocks)
    candidate = _stack([e.candidate for e in experts], shape, np.bool_)
    delta_sq = _stack([e.delta_sq for e in experts], shape, np.float64)
    coefficient = _stack([e.coefficient for e in experts], (len(rows), len(grid.keys)), np.float64)
    # Matrices of all blocks are megabytes: they are changed where they lie.
    frame_bytes = _stack([e.frame_bytes for e in experts], shape, np.int64)
    frame_bytes *= candidate
    foreign, foreign_bytes = _foreign(experts, candidate)
    measured = np.isfinite(delta_sq)
    known = candidate & (measured | (coefficient == 0.0).take(tensor, axis=1))
    error = _errors(grid, tensor, candidate, measured, delta_sq, coefficient)
    signs = _stack([e.sign for e in experts], (len(rows), len(grid.keys)), np.float64)
    terms = _terms(inputs, rows, coefficient * signs, tensor, error)
    parallel = None if terms is None else terms.products(None, tensor)
    base_scale = inputs.base_scale[tensor]
    return Problem(
        grid=grid,
        rows=rows,
        keys=tuple(e.manifest for e in experts),
        candidate=candidate,
        known=known,
        error=error,
        frame_bytes=frame_bytes,
        foreign=foreign,
        foreign_bytes=foreign_bytes,
        whole=_stack([e.whole for e in experts], (len(rows), len(grid.keys)), np.bool_),
        sign=signs,
        sketches=tuple(e.sketches for e in experts),
        terms=terms,
        certificate=Certificate(grid, candidate, known, error, base_scale, parallel),
        seed=inputs.seed,
    )


def _foreign(experts: Sequence[ExpertColumns], candidate: Flags) -> tuple[Integers, Integers]:
    """Numbers and bytes (K, N) of the foreign delta bases; one number for all where there is none, as in most
    repositories."""
    if not any((one.foreign >= 0).any() for one in experts):
        return np.broadcast_to(np.int64(-1), candidate.shape), np.broadcast_to(np.int64(0), candidate.shape)
    foreign = np.where(candidate, np.stack([one.foreign for one in experts]), -1)
    return foreign, np.where(foreign >= 0, np.stack([one.foreign_bytes for one in experts]), 0)


def _errors(
    grid: Grid,
    tensor: npt.NDArray[np.int32],
    candidate: Flags,
    measured: Flags,
    delta_sq: Floats,
    coefficient: Floats,
) -> Floats:
    """|lambda| |delta| (K, N), estimated where |delta| was not measured."""
    if bool((candidate & ~measured).any()):
        error = np.where(measured, delta_sq, _estimated(grid, tensor, candidate, delta_sq))
    else:
        error = np.where(measured, delta_sq, 0.0)
    np.sqrt(error, out=error)
    error *= coefficient.take(tensor, axis=1)
    np.copyto(error, 0.0, where=~candidate)
    return error


def _terms(
    inputs: PlanInputs,
    rows: tuple[int, ...],
    signed: Floats,
    tensor: npt.NDArray[np.int32],
    error: Floats,
) -> Terms | None:
    """What inner products are made of, in row order; None where nobody has compared any two experts.
    `signed` (K, T): lambda."""
    place = {expert: row for row, expert in enumerate(rows)}
    overlaps = {(place[i], place[j]): known for (i, j), known in inputs.overlaps.items()}
    return Terms(error, signed.take(tensor, axis=1), overlaps) if overlaps else None


def _rank(inputs: PlanInputs, index: int) -> tuple[bytes, str, int]:
    expert = inputs.experts[index]
    return expert.manifest, json.dumps(dict(expert.params), sort_keys=True), index


def _stack(columns: Sequence[npt.NDArray[Any]], shape: tuple[int, int], dtype: type) -> npt.NDArray[Any]:
    return np.stack(columns).astype(dtype, copy=False) if columns else np.zeros(shape, dtype)


def _estimated(grid: Grid, tensor: npt.NDArray[np.int32], candidate: Flags, delta_sq: Floats) -> Floats:
    """|delta|^2 of blocks nobody measured: per element as in the same tensor of the experts that were, else
    as in all tensors, else 1. Only an order of reading hangs on it, never a bound."""
    tensors = len(grid.keys)
    known = candidate & np.isfinite(delta_sq)
    squares = np.where(known, delta_sq, 0.0).sum(axis=0)
    elements = known.sum(axis=0) * grid.elements
    by_tensor = np.bincount(tensor, squares, tensors)
    measured = np.bincount(tensor, elements, tensors)
    overall = by_tensor.sum() / measured.sum() if measured.sum() else 1.0
    rate = np.where(measured > 0, by_tensor / np.maximum(measured, 1), overall)
    estimated: Floats = rate[tensor] * grid.elements
    return estimated
