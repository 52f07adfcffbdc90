"""The bound over the budget, from 0 to 100 % of the experts' raw size.

Relies on ordering and planner. Promises: pure, one pass; a point's bound is that of the units that
the budget buys in order. A plan at that budget also fills the gap that is left, and rarely has more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpstore.merge.expectation import expected_squares
from mpstore.merge.plan_inputs import Floats, Integers
from mpstore.merge.planner import Planned


@dataclass(frozen=True)
class Curve:
    """Columns over budgets (n,), ascending: `budget_bytes` int64, `share` of the full raw size, `cost_bytes`
    int64 that would be read, `bound` and `relative_bound` float64 (inf: something unmeasured is omitted), and
    `expected_error`, relative, what the sketches lead to expect (NaN where they say nothing)."""

    budget_bytes: Integers
    share: Floats
    cost_bytes: Integers
    bound: Floats
    relative_bound: Floats
    expected_error: Floats


def curve(planned: Planned, points: int = 101) -> Curve:
    """`points` budgets from nothing to the full raw size, evenly spaced, and the first that reads all."""
    ordering, plan = planned.ordering, planned.plan
    spent = np.concatenate([[0], np.cumsum(ordering.cost)])
    full_raw = max(plan.full_raw_bytes, 1)
    budgets = np.rint(np.linspace(0, plan.full_raw_bytes, points)).astype(np.int64)
    if spent[-1] <= plan.full_raw_bytes:
        budgets = np.union1d(budgets, spent[-1:])
    at = np.searchsorted(spent, budgets, side="right") - 1
    bound = np.sqrt(planned.squares[at])
    norm = planned.problem.certificate.norm
    relative = np.divide(bound, norm, out=np.where(bound > 0, np.inf, 0.0), where=norm > 0)
    expected = np.sqrt(expected_squares(planned.problem, ordering)[at])
    return Curve(
        budget_bytes=budgets,
        share=budgets / full_raw,
        cost_bytes=spent[at],
        bound=bound,
        relative_bound=relative,
        expected_error=np.divide(expected, norm, out=np.full(len(at), np.nan), where=norm > 0),
    )
