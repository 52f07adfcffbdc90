"""The bound over the budget, from 0 to 100 % of the experts' raw size.

Relies on ordering and planner. Promises: pure, one pass; a point's bound is that of the units that
the budget buys in order. A plan at that budget also fills the gap that is left, and rarely has more.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def curve(planned: Planned, points: int = 101, budgets: Integers | None = None) -> Curve:
    """At `budgets` (ascending); without them `points` from nothing to the full raw size, evenly spaced, and
    the first that reads all."""
    ordering, plan = planned.ordering, planned.plan
    spent = np.concatenate([[0], np.cumsum(ordering.cost)])
    full_raw = max(plan.full_raw_bytes, 1)
    if budgets is None:
        budgets = np.rint(np.linspace(0, plan.full_raw_bytes, points)).astype(np.int64)
        if spent[-1] <= plan.full_raw_bytes:
            budgets = rising([*budgets, spent[-1]])
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


def round_budgets(full_cost: int, full_raw: int, most: int = 20) -> Integers:
    """Budgets that are round shares of the raw size, and people can type: at most so many below what reading
    everything costs, then that.

    >>> round_budgets(474, 1000).tolist()
    [0, 25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300, 325, 350, 375, 400, 425, 450, 474]
    """
    share = full_cost / max(full_raw, 1)
    steps = (digit * 10.0**power for power in range(-6, 3) for digit in (1.0, 2.0, 2.5, 5.0))
    step = next(one for one in steps if share < one * most)
    budgets = np.floor(np.arange(most + 1) * step * full_raw + 1e-3).astype(np.int64)
    return rising([*budgets[budgets < full_cost], full_cost])


def rising(budgets: Iterable[int]) -> Integers:
    """Each once, in rising order: numpy's own sets import its masked arrays first, which takes longer."""
    return np.array(sorted({int(one) for one in budgets}), np.int64)
