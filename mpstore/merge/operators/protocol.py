"""What an operator is: a record of pure functions on float32 arrays, and the facts it may ask for.

Relies on numpy. Promises: nothing here or in any operator reads, writes, looks at a clock or draws
randomness; the same inputs give the same bits whatever the block size, thread count or expert order.

An operator sees one block at a time (or the whole tensor, when `whole`). Before that the engine can have
established *facts* about the tensor, in one pass over what the plan reads:
  ranks   the value of |delta| at given ascending ranks (1 = smallest), per expert: exact order statistics
          where the plan covers the expert's tensor, else the statistics' bin edges;
  gram    the (K+1, K+1) float64 matrix of inner products of [base, delta_1 .. delta_K], accumulated in
          fixed chunks of 64 elements in element order. <x_i, x_j> and cosines follow from it.
An omitted, equal or missing expert block has delta 0 and appears as None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Value: TypeAlias = Any  # float, int, bool or str


@dataclass(frozen=True)
class ExpertContext:
    """One expert of one tensor: its resolved parameters and the key its random masks hang on."""

    key: bytes  # manifest id of the expert
    params: Mapping[str, Value]

    @property
    def weight(self) -> float:
        return float(self.params.get("weight", 1.0))


@dataclass(frozen=True)
class TensorContext:
    """One tensor of a merge, parameters resolved (gradients and filters applied)."""

    name: str
    shape: tuple[int, ...]
    elements: int
    seed: int
    params: Mapping[str, Value]
    experts: tuple[ExpertContext, ...]


@dataclass(frozen=True)
class Block:
    """The inputs of one application: `start` is the element offset in the tensor, `base` float32 of shape
    (n,), `deltas` one float32 array of shape (n,) per expert, or None where the delta is zero."""

    start: int
    base: Array
    deltas: tuple[Array | None, ...]


@dataclass(frozen=True)
class Facts:
    """What was established before `apply`: thresholds[i][r] belongs to expert i and its r-th asked rank."""

    thresholds: tuple[tuple[float, ...], ...] = ()
    gram: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operator: where it may stand, its default, and the check on one value.

    `low`/`high` bound numbers; the interval is open at the ends listed in `open_ends` ("low", "high").
    """

    name: str
    scope: Literal["model", "global", "both"]
    kind: Literal["number", "integer", "flag", "choice"]
    default: Value
    doc: str
    low: float | None = None
    high: float | None = None
    open_ends: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


def _no_ranks(context: TensorContext) -> tuple[tuple[int, ...], ...]:
    return tuple(() for _ in context.experts)


@dataclass(frozen=True)
class Operator:
    """One merge method.

    apply(block, facts, context) -> float32 array of shape (n,): the merged block before the final cast.
    ranks(context) -> per expert the ascending ranks of |delta| it needs (empty: none).
    coefficients(context) -> per expert |lambda_i|, the largest factor its delta can reach the output with;
        the certificate is sqrt(sum_b (sum_{i omitted} |lambda_i| |delta_ib|)^2). None: no such factor, and
        the planner's bound is labelled an estimate (it then uses |weight|).
    additive: the coefficients are fixed, so the bound is a certificate.
    whole: `apply` gets the whole tensor as one block (memory scratch_bytes(elements, experts)).
    models: (fewest, most) experts it takes; most None = any number.
    base_required: a base model is needed for the formula (all others take the first model as origin).
    check(context-free global params, list of expert params) -> None or raises UsageError.
    """

    name: str
    summary: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    apply: Callable[[Block, Facts, TensorContext], Array]
    ranks: Callable[[TensorContext], tuple[tuple[int, ...], ...]] = _no_ranks
    gram: bool = False
    whole: bool = False
    additive: bool = False
    coefficients: Callable[[TensorContext], tuple[float, ...]] | None = None
    scratch_bytes: Callable[[int, int], int] | None = None
    models: tuple[int, int | None] = (1, None)
    base_required: bool = True
    aliases: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    check: Callable[[Mapping[str, Value], tuple[Mapping[str, Value], ...]], None] | None = None
