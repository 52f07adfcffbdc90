"""The picture of a plan: error over budget.

Relies on matplotlib, an extra, imported when a picture is asked for. Promises: bytes out; writes nothing.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mpstore.errors import UsageError

FORMATS: Final = ("png", "svg", "pdf")
_BOUND, _EXPECTED, _MUTED = "#1b5e9c", "#d1772a", "#777777"


def picture(plan: Mapping[str, Any], points: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
    """The curve of bound over budget, and of the error to expect, as an image.

    plan: a plan's document (`mp plan --json`); points: its curve; suffix: ".png", ".svg" or ".pdf". Raises
    UsageError where matplotlib is missing or the suffix is another.
    """
    form = suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise UsageError(
            f"cannot draw {suffix or 'a file without ending'}", hint="name it .png, .svg or .pdf"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("a picture needs matplotlib", hint="pip install 'mpstore[examples]'") from None
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    _draw(figure.add_subplot(), plan, points)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=150)
    return buffer.getvalue()


def _draw(axes: Any, plan: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> None:
    raw = max(plan["full_raw_bytes"], 1)
    shares = [100 * point["budget_bytes"] / raw for point in points]
    label = "at most (certified)" if plan["bound_kind"] == "certificate" else "about (no guarantee)"
    _line(axes, shares, [point["relative_bound"] for point in points], label=label, color=_BOUND)
    _line(
        axes, shares, [point["expected_error"] for point in points], "--", label="expected", color=_EXPECTED
    )
    full = 100 * plan["full_stored_bytes"] / raw
    axes.axvline(full, color=_MUTED, linewidth=0.8)
    axes.annotate(
        f"all that is stored: {full:.1f} %",
        (full, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        textcoords="offset points",
        rotation=90,
        va="top",
        ha="right",
        fontsize=8,
        color=_MUTED,
    )
    if math.isfinite(plan["relative_bound"]):
        at = 100 * plan["planned_bytes"] / raw
        axes.plot([at], [plan["relative_bound"]], "o", color=_BOUND, label="this plan")
    axes.set(
        xlabel="bytes read for experts, % of their raw size",
        ylabel="error of the output / norm of the base",
        title=f"{plan['operator']} of {len(plan['experts'])} experts onto {plan['base']}",
        xlim=(0, max(full * 1.2, 1.0)),
        ylim=(0, None),
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _line(axes: Any, shares: Sequence[float], values: Sequence[float], style: str = "-", **how: Any) -> None:
    """A line through the finite points, if there are any."""
    shown = [(share, value) for share, value in zip(shares, values, strict=True) if math.isfinite(value)]
    if shown:
        axes.plot(*zip(*shown, strict=True), style, **how)
