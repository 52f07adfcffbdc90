"""From what is known of every block to what a merge may read: the only place that decides it.

Relies on numpy, ordering, policies and records. Promises: pure (no I/O, no clock, no randomness); the same
inputs and limits give the same plan, byte for byte. The plan's cost is at most its budget; what is read for
experts is at most its cost; for operators with fixed coefficients the bound is never broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpstore.errors import BudgetError
from mpstore.merge import ordering as orders
from mpstore.merge.ordering import Ordering
from mpstore.merge.plan_inputs import Flags, Floats, Limits, PlanInputs
from mpstore.merge.plan_record import record
from mpstore.merge.policies import table
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.problem import Problem, build
from mpstore.records.model import Plan


@dataclass(frozen=True)
class Ordered:
    """A problem in the order in which a policy reads: worked out when it is asked for, which a merge that may
    read everything never does."""

    problem: Problem
    policy: Policy

    @cached_property
    def ordering(self) -> Ordering:
        """The order, priced."""
        problem = self.problem
        fills = self.policy.fills and not (problem.grouped & problem.known).any()
        if problem.candidate.any():
            return orders.price(problem, self.policy.order(problem), bool(fills))
        return orders.price(problem, np.full(problem.candidate.shape, -1), bool(fills))

    @cached_property
    def squares(self) -> Floats:
        """(U + 1,): the bound squared after each unit."""
        return orders.trajectory(self.problem, self.ordering)

    @cached_property
    def full_bytes(self) -> int:
        """What reading everything costs."""
        if self.problem.has_foreign:  # paid for by the first that leans on it, which the order says
            return int(self.ordering.cost.sum())
        return int(self.problem.frame_bytes.sum())


@dataclass(frozen=True)
class Planned:
    """A plan with the order it was cut from; `selected` (K, N): what is read, in the problem's row order."""

    plan: Plan
    ordered: Ordered
    selected: Flags

    @property
    def problem(self) -> Problem:
        return self.ordered.problem

    @property
    def ordering(self) -> Ordering:
        return self.ordered.ordering

    @property
    def squares(self) -> Floats:
        return self.ordered.squares


def plan(inputs: PlanInputs, limits: Limits) -> Plan:
    """What to read. BudgetError (exit 6) with the figure that would do where the limits cannot be met."""
    return plan_with_order(inputs, limits).plan


def plan_with_order(inputs: PlanInputs, limits: Limits) -> Planned:
    """The same, with what a curve is drawn from."""
    _check_memory(inputs, limits.memory_bytes)
    policy = table.find(
        limits.policy or (table.DEFAULT if limits.max_error is None else table.DEFAULT_FOR_ERROR)
    )
    ordered = Ordered(build(inputs), policy)
    selected, binding = _select(inputs, limits, ordered)
    made = record(inputs, limits, policy.name, ordered.problem, selected, binding)
    return Planned(made, ordered, selected)


def _check_memory(inputs: PlanInputs, memory_bytes: int) -> None:
    need = inputs.scratch_bytes
    worst = int(np.argmax(need)) if len(need) else -1
    if worst >= 0 and need[worst] > memory_bytes:
        raise BudgetError(
            f"{inputs.operator} needs {int(need[worst])} bytes of memory for tensor "
            f"{inputs.grid.keys[worst]!r}, and {memory_bytes} are allowed",
            hint=f"--memory {int(need[worst])} would do, fewer experts at once, or another operator",
        )


def _select(inputs: PlanInputs, limits: Limits, ordered: Ordered) -> tuple[Flags, str]:
    """The selection (K, N) in the problem's row order, and which limit binds."""
    budget, problem = limits.budget_bytes, ordered.problem
    if inputs.mandatory and budget is not None and ordered.full_bytes > budget:
        raise BudgetError(
            f"stacking layers reads {ordered.full_bytes} bytes, and the budget is {budget}",
            hint=f"a stack leaves nothing to omit: --budget {ordered.full_bytes} would do",
        )
    if limits.max_error is not None and not inputs.mandatory:
        ordering = ordered.ordering
        wanted = _least(ordered, limits.max_error)
        cost = int(ordering.cost[:wanted].sum())
        if budget is None or cost <= budget:
            taken = np.arange(ordering.units) < wanted
            return orders.selection(ordering, taken), "max_error" if wanted < ordering.units else "none"
    if budget is None or ordered.full_bytes <= budget:
        return problem.candidate.copy(), "none"
    selected = orders.selection(ordered.ordering, orders.cut(ordered.ordering, budget))
    if limits.max_error is not None:
        reached = problem.certificate.relative(problem.certificate.bound(selected))
        if reached > limits.max_error:
            raise BudgetError(
                f"a relative error of {limits.max_error:g} needs {cost} bytes, and the budget is {budget}",
                hint=f"--budget {cost} would do"
                + (f", or --max-error {_above(reached)} at this budget" if np.isfinite(reached) else ""),
            )
    return selected, "budget"


def _least(ordered: Ordered, max_error: float) -> int:
    """How many units must be read, in order, for the relative bound to hold."""
    certificate, ordering = ordered.problem.certificate, ordered.ordering
    fits = np.sqrt(ordered.squares) <= max_error * certificate.norm
    wanted = int(np.argmax(fits))  # nothing is omitted at the end, so there is a first
    while wanted < ordering.units:
        selected = orders.selection(ordering, np.arange(ordering.units) < wanted)
        if certificate.relative(certificate.bound(selected)) <= max_error:
            break
        wanted += 1
    return wanted


def _above(value: float) -> str:
    """A short decimal that is not below the value."""
    text = f"{value:.3g}"
    return text if float(text) >= value else f"{value * 1.005:.3g}"
