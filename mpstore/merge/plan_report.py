"""A plan for people and programs: JSON with the command line's keys, a table, a picture.

Relies on planner and curve; on matplotlib for the picture alone, imported when one is asked for. Promises:
prints nothing; values in JSON are bytes, the unit is the last word of the key, and what is infinite is null.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpstore.errors import StorageError, UsageError
from mpstore.merge.curve import Curve, curve
from mpstore.merge.expectation import expected_error
from mpstore.merge.planner import Planned
from mpstore.records.model import Plan


@dataclass(frozen=True)
class ExpertRow:
    """What a plan does with one expert; bytes, and blocks that differ from the base's."""

    model: str
    kind: str
    raw_bytes: int
    stored_bytes: int
    planned_bytes: int
    selected_blocks: int
    omitted_blocks: int
    equal_blocks: int
    fallback: str


def figures(plan: Plan) -> dict[str, Any]:
    """The keys of `mp merge --json` that a plan knows."""
    return {
        "operator": plan.operator,
        "experts": [expert.model for expert in plan.experts],
        "policy": plan.policy,
        "budget_bytes": plan.budget_bytes,
        "max_error": plan.max_error,
        "full_raw_bytes": plan.full_raw_bytes,
        "full_stored_bytes": plan.full_stored_bytes,
        "planned_bytes": plan.cost_bytes,
        "planned_base_bytes": plan.base_cost_bytes,
        "omitted_blocks": plan.omitted_blocks,
        "bound": _finite(plan.bound),
        "relative_bound": _finite(plan.relative_bound),
        "bound_kind": plan.bound_kind,
        "exact": plan.exact,
        "binding": plan.binding,
        "fallbacks": dict(plan.fallbacks),
        "seed": plan.seed,
    }


def as_json(planned: Planned, points: int = 21) -> dict[str, Any]:
    """`mp plan --json`: the figures, the expected relative error, experts, notes, and the curve."""
    return {
        **figures(planned.plan),
        "expected_error": _finite(expected_error(planned.problem, planned.selected)),
        "expert_rows": [vars(row) for row in rows(planned)],
        "notes": list(planned.notes),
        "curve": points_of(curve(planned, points)),
    }


def points_of(found: Curve) -> list[dict[str, Any]]:
    """A curve as a list of points."""
    columns = (
        found.budget_bytes.tolist(),
        found.share.tolist(),
        found.cost_bytes.tolist(),
        found.bound.tolist(),
        found.relative_bound.tolist(),
        found.expected_error.tolist(),
    )
    names = ("budget_bytes", "share", "planned_bytes", "bound", "relative_bound", "expected_error")
    return [
        {
            name: _finite(value) if isinstance(value, float) else value
            for name, value in zip(names, point, strict=True)
        }
        for point in zip(*columns, strict=True)
    ]


def rows(planned: Planned) -> list[ExpertRow]:
    """One row an expert, in the recipe's order."""
    problem, plan = planned.problem, planned.plan
    row_of = {expert: row for row, expert in enumerate(problem.rows)}
    found = []
    for number, expert in enumerate(plan.experts):
        row = row_of[number]
        there = int(problem.candidate[row].sum())
        chosen = int(planned.selected[row].sum())
        why = [text for name, text in plan.fallbacks.items() if name.startswith(f"{number} ")]
        found.append(
            ExpertRow(
                model=expert.model,
                kind=expert.kind,
                raw_bytes=planned.raw_bytes[number],
                stored_bytes=int((problem.frame_bytes[row] + problem.foreign_bytes[row]).sum()),
                planned_bytes=expert.cost_bytes,
                selected_blocks=chosen,
                omitted_blocks=there - chosen,
                equal_blocks=problem.grid.blocks - there,
                fallback=why[0] if why else "",
            )
        )
    return found


def plot(planned: Planned, path: str | os.PathLike[str]) -> None:
    """Draw the curve as a picture (PNG, SVG or PDF by the name's ending).

    Raises UsageError where matplotlib is missing or the ending unknown, StorageError where writing fails.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("a picture needs matplotlib", hint="pip install 'mpstore[examples]'") from None
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    _draw(figure.add_subplot(), planned, curve(planned, 201))
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise UsageError(
            f"cannot draw {os.fspath(path)}: {error}", hint="name it .png, .svg or .pdf"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from None


def _draw(axes: Any, planned: Planned, found: Curve) -> None:
    plan = planned.plan
    label = "certified bound" if plan.bound_kind == "certificate" else "estimate"
    shown = np.isfinite(found.relative_bound)
    axes.plot(found.share[shown] * 100, found.relative_bound[shown], label=label, color="#1b5e9c")
    if np.isfinite(found.expected_error).any():
        axes.plot(found.share * 100, found.expected_error, "--", label="expected", color="#d1772a")
    full = 100 * plan.full_stored_bytes / max(plan.full_raw_bytes, 1)
    axes.axvline(full, color="#777777", linewidth=0.8)
    axes.annotate(
        f"everything stored: {full:.1f} %",
        (full, 0.97),
        xycoords=("data", "axes fraction"),
        rotation=90,
        va="top",
        ha="right",
        fontsize=8,
        color="#555555",
    )
    if math.isfinite(plan.relative_bound):
        at = 100 * plan.cost_bytes / max(plan.full_raw_bytes, 1)
        axes.plot([at], [plan.relative_bound], "o", color="#1b5e9c", label="this plan")
    axes.set(
        xlabel="bytes read for experts, % of their raw size",
        ylabel="error of the output / norm of the base",
        title=f"{plan.operator}, {len(plan.experts)} experts, policy {plan.policy}",
        xlim=(0, min(100.0, max(10.0, full * 1.25))),
        ylim=(0, None),
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
