"""What `mp plan` and `mp merge` say in words: bytes against budget, the bound, what is left out.

Relies on quantities and tables. Promises: every figure stands in the JSON document too.
"""

from __future__ import annotations

import math
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
    if value["bound"] == math.inf:
        return (
            f"{plural(value['omitted_blocks'], 'block')} left out, of which nobody knows how much they change"
        )
    relative = value.get("relative_bound")
    share_of_base = "" if relative is None else f", {figure(relative)} of the base's norm"
    how_sure = {"certificate": "error at most", "estimate": "error about"}[value["bound_kind"]]
    why = "" if value["bound_kind"] == "certificate" else f" (no guarantee: {value['operator']} has none)"
    return (
        f"{plural(value['omitted_blocks'], 'block')} left out; {how_sure} {figure(value['bound'])}"
        f"{share_of_base}{why}"
    )


def network(value: Mapping[str, Any]) -> list[str]:
    """ "over the network: 1.2 GiB of the base, and 215 KiB of experts", where anything is still elsewhere."""
    base, experts = value["base_network_bytes"], value["expert_network_bytes"]
    parts = [f"{size(base)} of the base (whole, and in no budget)"] if base else []
    parts += [f"{size(experts)} of experts"] if experts else []
    return [f"over the network: {' and '.join(parts)}"] if parts else []


def by_whole_tensors(value: Mapping[str, Any]) -> Iterator[str]:
    """What is read tensor by tensor and why, one line for an expert and a reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for what, why in value["fallbacks"].items():
        expert, _, key = what.partition(": ")
        found.setdefault((expert.partition(" ")[2], why), []).append(key)
    for (expert, why), keys in found.items():
        which = "" if keys == ["*"] else f" ({plural(len(keys), 'tensor')}, such as {keys[0]})"
        said = why.replace("`mp analyze`", f"`mp analyze {expert} --base {value['base']}`")
        yield f"{expert} by whole tensors{which}: {said}"


def settings(params: Mapping[str, Any]) -> str:
    """ "density=0.2 normalize=true weight=1", as they would be typed."""
    return " ".join(f"{key}={_typed(value)}" for key, value in params.items())


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def curve(value: Mapping[str, Any]) -> Iterator[str]:
    """The error over the budget as a table."""
    at_most = "AT MOST" if value["bound_kind"] == "certificate" else "ABOUT"
    rows = [
        (
            size(point["budget_bytes"]),
            share(point["budget_bytes"], value["full_raw_bytes"]),
            figure(point["bound"]),
            figure(point["relative_bound"]),
            "" if math.isnan(point["expected_error"]) else figure(point["expected_error"]),
            "exact" if point["exact"] else "this plan" if point["this_plan"] else "",
        )
        for point in value["curve"]
    ]
    yield "error over budget (RELATIVE and EXPECTED: of the base's norm)"
    yield from tables.aligned(rows, "rrrrrl", ("BUDGET", "OF RAW", at_most, "RELATIVE", "EXPECTED", ""))


def tighter(value: Mapping[str, Any]) -> Iterator[str]:
    """What would make the bound smaller without reading more."""
    found = value.get("if_compared")
    if found:
        names = "" if found["all_based"] else f"{' '.join(found['experts'])} "
        yield (
            f"mp analyze {names}--pairs compares the experts with each other, and brings the bound down to "
            f"about {figure(found['relative_bound'])} of the base's norm"
        )
