"""What planning tells: the plan, the bound over budgets, and what comparing the experts would be worth.

Relies on merge and revisions. Promises: nothing is read but records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from mpstore import revisions
from mpstore.api import names
from mpstore.errors import MpError
from mpstore.ids import ObjectId
from mpstore.merge import curve as curves
from mpstore.merge import results
from mpstore.merge.engine import Prepared
from mpstore.merge.expectation import bound_if_compared
from mpstore.merge.plan_network import ToFetch
from mpstore.records.model import Plan
from mpstore.repository import Repo

_WORTH_COMPARING: Final = 0.9


@dataclass(frozen=True)
class CurvePoint:
    """The bound at one budget; inf while something that nobody measured is left out. `expected_error` is
    relative, too: what the error usually comes to (NaN: nothing is known). `this_plan`: the plan whose curve
    this is."""

    budget_bytes: int
    planned_bytes: int
    bound: float
    relative_bound: float
    expected_error: float
    exact: bool
    this_plan: bool


@dataclass(frozen=True)
class Tighter:
    """Experts that were never compared with each other, and about the bound if they were. `all_based`: they
    are all the branches that were added with a base."""

    experts: tuple[str, ...]
    relative_bound: float
    all_based: bool


@dataclass(frozen=True)
class PlanResult:
    """A plan, its id, and each expert's weights in bytes, whole and unencoded. `fetched`: what executing it
    brings over the network. `curve` and `if_compared` are known only when it was made just now."""

    id: ObjectId
    plan: Plan
    raw_bytes: tuple[int, ...]
    fetched: ToFetch
    curve: tuple[CurvePoint, ...] = ()
    if_compared: Tighter | None = None

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp plan --json`."""
        document = results.plan_json(self.plan, self.id, self.raw_bytes)
        network = {
            "base_network_bytes": self.fetched.base_bytes,
            "expert_network_bytes": self.fetched.expert_bytes,
        }
        compared = None if self.if_compared is None else vars(self.if_compared)
        curve = [vars(point) for point in self.curve]
        return {**document, **network, "if_compared": compared, "curve": curve}


def curve_of(prepared: Prepared) -> tuple[CurvePoint, ...]:
    """The bound over budgets: round shares of the raw size up to what reads everything, and the plan's."""
    planned, made = prepared.planned, prepared.plan
    everything = int(planned.ordering.cost.sum())
    own = made.cost_bytes if made.budget_bytes is None or made.binding == "max_error" else made.budget_bytes
    budgets = curves.round_budgets(everything, made.full_raw_bytes)
    if not made.exact:
        budgets = curves.rising([*budgets[np.abs(budgets - own) > 1], own])
    found = curves.curve(planned, budgets=budgets)
    points = [
        CurvePoint(
            budget_bytes=int(found.budget_bytes[number]),
            planned_bytes=int(found.cost_bytes[number]),
            bound=float(found.bound[number]),
            relative_bound=float(found.relative_bound[number]),
            expected_error=float(found.expected_error[number]),
            exact=int(found.cost_bytes[number]) == everything,
            this_plan=False,
        )
        for number in range(len(budgets))
    ]
    if not made.exact:  # which also fills the gap that its order leaves
        at = int(np.searchsorted(budgets, own))
        points[at] = replace(
            points[at],
            planned_bytes=made.cost_bytes,
            bound=made.bound,
            relative_bound=made.relative_bound,
            exact=False,
            this_plan=True,
        )
    return tuple(points)


def tighter(repo: Repo, prepared: Prepared) -> Tighter | None:
    """What comparing the experts would be worth, if anything."""
    inputs, planned = prepared.inputs, prepared.planned
    uncompared = [inputs.experts[i].model for i in inputs.uncompared]
    if not uncompared or planned.plan.exact or not math.isfinite(planned.plan.bound):
        return None
    try:
        for name in uncompared:
            revisions.resolve(
                repo, name
            )  # a directory, or a model of the Hub, cannot be compared by its name
    except MpError:
        return None
    bound = bound_if_compared(planned.problem, planned.selected)
    if bound >= _WORTH_COMPARING * planned.plan.bound:
        return None
    return Tighter(
        tuple(uncompared),
        planned.problem.certificate.relative(bound),
        sorted(uncompared) == sorted(names.based(repo)),
    )
