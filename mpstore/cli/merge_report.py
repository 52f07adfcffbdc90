"""What `mp plan` and `mp merge` say in words: bytes against budget, the bound, what is left out.

Relies on quantities and tables. Promises: every figure stands in the JSON document too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mpstore.cli import tables
from mpstore.cli.quantities import figure, plural, share, size


def reading(value: Mapping[str, Any], read_bytes: int, verb: str) -> str:
    """ "read 215 KiB of experts: 25.0 % of their 861 KiB raw (budget 215 KiB)"."""
    raw = value["full_raw_bytes"]
    limit = value["budget_bytes"]
    budget = "no budget" if limit is None else f"budget {size(limit)}"
    return (
        f"{verb} {size(read_bytes)} of experts: {share(read_bytes, raw)} of their {size(raw)} raw ({budget})"
    )


def exactness(value: Mapping[str, Any]) -> str:
    """The bound, or that nothing is lost."""
    if value["exact"]:
        return "exact: the same as a merge that reads everything"
    kind = {"certificate": "guaranteed", "estimate": "estimated, not guaranteed"}[value["bound_kind"]]
    relative = value.get("relative_bound")
    share_of_base = f", {figure(relative)} of the base's norm" if relative is not None else ""
    return (
        f"{plural(value['omitted_blocks'], 'block')} left out; error at most {figure(value['bound'])}"
        f"{share_of_base} ({kind})"
    )


def curve(points: list[Mapping[str, Any]], full_raw_bytes: int) -> Iterator[str]:
    """The bound over budget as a table."""
    rows = [
        (
            size(point["budget_bytes"]),
            share(point["budget_bytes"], full_raw_bytes),
            "0" if point["bound"] == 0 else figure(point["bound"]),
            figure(point["relative_bound"]),
            "exact" if point["exact"] else plural(point["omitted_blocks"], "block") + " left out",
        )
        for point in points
    ]
    yield from tables.aligned(rows, "rrrrl", ("BUDGET", "OF RAW", "BOUND", "RELATIVE", ""))
