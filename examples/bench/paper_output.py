"""Tables and pictures of paper.py's results. Relies on matplotlib for pictures only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_COLUMNS = {
    "experts": ("experts", "way", "expert MB", "total MB", "wall s", "peak MB", "bound"),
    "budget": ("budget_percent", "way", "expert MB", "total MB", "wall s", "deviation", "bound", "exact"),
    "operators": ("operator", "way", "expert MB", "total MB", "wall s", "deviation", "bound_kind", "exact"),
    "overheads": ("budget_percent", "what", "value", "unit"),
    "blocks": ("block_kibielements", "stored MB", "expert MB", "total MB", "wall s", "bound"),
    "repeat": ("run", "plan", "manifest", "expert MB", "total MB", "wall s"),
}
_DERIVED = {
    "expert MB": lambda row: row["expert_bytes"] / 1e6,
    "total MB": lambda row: (row["read_bytes"] + row["written_bytes"]) / 1e6,
    "stored MB": lambda row: row["stored_bytes"] / 1e6,
    "peak MB": lambda row: row["peak_bytes"] / 1e6,
    "wall s": lambda row: row["wall_seconds"],
}


def _cell(row: dict[str, Any], column: str) -> str:
    value = _DERIVED[column](row) if column in _DERIVED else row.get(column, "")
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return value[:10] if column in ("plan", "manifest") else str(value)


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    columns = _COLUMNS[result["command"]]
    lines = [" | ".join(columns), "|".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row, column) for column in columns) for row in result["rows"]]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def plot(result: dict[str, Any], target: Path) -> None:
    """Bytes and seconds side by side, one line (or group of bars) for each way."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = result["rows"]
    if result["command"] == "overheads":
        shown = [row for row in rows if row["unit"] == "s"]
        figure, axes = pyplot.subplots(figsize=(7, 4))
        axes.barh(
            [f"{row['what']} ({row['budget_percent']} %)" for row in shown], [row["value"] for row in shown]
        )
        axes.set_xlabel("seconds")
    else:
        figure, both = pyplot.subplots(1, 2, figsize=(10, 4))
        for axes, column in zip(both, ("expert MB", "wall s"), strict=True):
            _lines(axes, rows, _COLUMNS[result["command"]][0], column)
        both[0].legend(fontsize=8)
    figure.savefig(target, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def _lines(axes: Any, rows: list[dict[str, Any]], across: str, column: str) -> None:
    for way in dict.fromkeys(row.get("way", "mp") for row in rows):
        mine = [row for row in rows if row.get("way", "mp") == way]
        places = [
            str(row[across]) if across in ("operator", "block_kibielements") else row[across] for row in mine
        ]
        axes.plot(places, [_DERIVED[column](row) for row in mine], marker="o", label=way)
    axes.set_xlabel(across.replace("_", " "))
    axes.set_ylabel(column)
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", labelrotation=30 if across == "operator" else 0)
    axes.grid(alpha=0.3)
