"""What an operator is: a record of pure functions on float32 arrays, and the facts it may ask for.

Relies on numpy and on a kernel's columns. Promises: nothing here or in any operator reads, writes, looks at
a clock or draws randomness; the same inputs give the same bits whatever the block size, thread count or
expert order.

An operator sees one block at a time (or the whole tensor, when `whole`). Before that the engine can have
established *facts* about the tensor, in one pass over what the plan reads:
  ranks   the value of |delta| at given ascending ranks (1 = smallest), per expert: exact order statistics
          where the plan covers the expert's tensor, else the statistics' bin edges;
  gram    the (K+1, K+1) float64 matrix of inner products of [base, delta_1 .. delta_K], accumulated in
          fixed chunks of 64 elements in element order (`operators.gram.accumulate`, block after block).
          <x_i, x_j> and cosines follow from it.
An omitted, equal or missing expert block has delta 0 and appears as None.
What is computed is a function of the set of (delta, parameters): neither the order of a recipe nor an
expert's other tensors show in the bits. Sums over experts are exact, see kernels.merge_numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.kernels.merge_numpy import Terms

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
    (n,), `deltas` one float32 array of shape (n,) per expert, or None where the delta is zero. A delta is
    x - b in float32, and +0 where x and b are the same bits (infinities and NaN included). All are
    C-contiguous and only read. `out`, where given, is float32 of shape (n,), may be uninitialised, aliases
    none of the inputs, and is what `apply` fills and returns; without it `apply` allocates."""

    start: int
    base: Array
    deltas: tuple[Array | None, ...]
    out: Array | None = None


@dataclass(frozen=True)
class Facts:
    """What was established before `apply`: thresholds[i][r] belongs to expert i and its r-th asked rank."""

    thresholds: tuple[tuple[float, ...], ...] = ()
    gram: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operator: where it may stand, its default, and the check on one value.

    `low`/`high` bound numbers; the interval is open at the ends listed in `open_ends` ("low", "high").
    A `required` one must be given for every expert (scope "model") or once (scope "global").
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
    required: bool = False


def _no_ranks(context: TensorContext) -> tuple[tuple[int, ...], ...]:
    return tuple(() for _ in context.experts)


def _always(context: TensorContext) -> bool:
    del context
    return True


@dataclass(frozen=True)
class Operator:
    """One merge method.

    apply(block, facts, context) -> float32 array of shape (n,): the merged block before the final cast.
    terms(facts, context) -> the columns that `apply` combines deltas with, where it does nothing else (an
        executor may then hand stored words to a kernel that widens them itself); None: it does more.
    ranks(context) -> per expert the ascending ranks of |delta| it needs (empty: none).
    coefficients(context) -> per expert |lambda_i|, the largest factor its delta can reach the output with;
        the certificate is sqrt(sum_b (sum_{i omitted} |lambda_i| |delta_ib|)^2). None: no such factor, and
        the planner's bound is labelled an estimate (it then uses |weight|).
    additive: the coefficients are fixed, so the bound is a certificate. Ask `is_additive`.
    whole: `apply` gets the whole tensor as one block.
    unit(context) -> elements that must stay together: `apply` gets runs that start and end at multiples of
        it (a row, or the whole tensor). None: 1, any run will do. Ask `unit_elements`.
    scratch_bytes(elements, experts) -> memory one `apply` needs beside its inputs and its output, for runs
        of that many elements. None: nothing that grows with the run.
    keeps_base(context): where every delta is zero the output *is* the base, bit for bit, so that such a
        block need be neither read nor written. False: the formula rescales the base as well.
    random: masks are drawn, so the result depends on the seed, the tensor's name and the experts' keys too.
    models: (fewest, most) experts it takes; most None = any number.
    base_required: a base model is needed for the formula. The others take the first model as origin where
        a recipe names no base; it is then an expert as well, one whose deltas are all None.
    base_counts: whether a base that a recipe names is one of the models too: "never", where it is "listed"
        among them (linear), or "always" (karcher, as in mergekit).
    check(context-free global params, list of expert params) -> None or raises UsageError.
    """

    name: str
    summary: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    apply: Callable[[Block, Facts, TensorContext], Array]
    terms: Callable[[Facts, TensorContext], Terms | None] | None = None
    ranks: Callable[[TensorContext], tuple[tuple[int, ...], ...]] = _no_ranks
    gram: bool = False
    whole: bool = False
    additive: bool = False
    coefficients: Callable[[TensorContext], tuple[float, ...]] | None = None
    unit: Callable[[TensorContext], int] | None = None
    scratch_bytes: Callable[[int, int], int] | None = None
    keeps_base: Callable[[TensorContext], bool] = _always
    random: bool = False
    models: tuple[int, int | None] = (1, None)
    base_required: bool = True
    base_counts: Literal["never", "listed", "always"] = "never"
    aliases: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    check: Callable[[Mapping[str, Value], tuple[Mapping[str, Value], ...]], None] | None = None

    def unit_elements(self, context: TensorContext) -> int:
        """Elements that one `apply` must get together: 1, a row's length, or the tensor's."""
        if self.whole:
            return max(context.elements, 1)
        return max(self.unit(context), 1) if self.unit else 1

    def needs_gram(self, context: TensorContext) -> bool:
        """Whether `Facts.gram` must be established first. Where rows are kept together it is not needed."""
        return self.gram and self.unit_elements(context) == 1

    def is_additive(self, context: TensorContext) -> bool:
        """Whether the coefficients bound the output whatever is omitted (else the bound is an estimate)."""
        return self.additive and self.unit_elements(context) == 1

    @property
    def weighs_deltas(self) -> bool:
        """Whether an expert's weight is a factor of its delta: one of weight 0 then changes nothing."""
        return self.parameter("weight") is not None and not self.gram

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        return next((one for one in self.parameters if one.name == name), None)
