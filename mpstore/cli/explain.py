"""`mp explain`: which experts reached which tensor of a merge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mpstore.cli import merge_report, tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import Explanation, Reach, TensorReach


@verb(
    "explain",
    """
  mp explain merged                                 one line a tensor
  mp explain merged model.layers.0.mlp.up_proj.weight
  mp explain merged '*mlp*'
""",
)
@click.argument("revision", metavar="REV")
@click.argument("tensors", nargs=-1, metavar="[TENSOR]…")
def command(session: Session, revision: str, tensors: tuple[str, ...]) -> None:
    """Show which experts reached which tensor of the merge REV: planned against realized.

    TENSOR is a name or a pattern; then each expert's part is told in full.
    """
    found = session.repository().explain(revision, tensors)
    lines = _in_full(found) if tensors else _table(found)
    session.answer(_document(found), [*_head(found), "", *lines])


def _document(found: Explanation) -> dict[str, Any]:
    plan = found.plan
    return {
        "commit": found.commit,
        "plan": plan.id,
        "operator": plan.operator,
        "params": dict(found.params),
        "policy": plan.policy,
        "base": plan.base_model,
        "budget_bytes": plan.budget_bytes,
        "max_error": plan.max_error,
        "planned_bytes": plan.planned_bytes,
        "full_raw_bytes": plan.full_raw_bytes,
        "full_stored_bytes": plan.full_stored_bytes,
        "omitted_blocks": plan.omitted_blocks,
        "bound": plan.bound,
        "relative_bound": plan.relative_bound,
        "bound_kind": plan.bound_kind,
        "exact": plan.exact,
        "binding": plan.binding,
        "as_planned": found.as_planned,
        "figures": dict(found.figures),
        "experts": [vars(expert) for expert in found.experts],
        "tensors": [
            {
                "tensor": tensor.key,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "blocks": tensor.blocks,
                "changed_blocks": tensor.changed_blocks,
                "params": dict(tensor.params),
                "experts": [
                    {"model": expert.model, **vars(reach)}
                    for expert, reach in zip(found.experts, tensor.experts, strict=True)
                ],
            }
            for tensor in found.tensors
        ],
    }


def _head(found: Explanation) -> Iterator[str]:
    plan = found.plan
    yield (
        f"merge {found.commit.hex()[:10]}: {plan.operator} onto {plan.base_model}, "
        f"plan {plan.id.hex()[:10]} by {plan.policy}"
    )
    yield f"with {merge_report.settings(found.params)}"
    yield merge_report.reading(vars(plan), plan.planned_bytes, "planned to read")
    yield merge_report.exactness(vars(plan))
    yield (
        "applied exactly what was planned" if found.as_planned else "WHAT WAS APPLIED IS NOT WHAT WAS PLANNED"
    )
    yield ""
    rows = [
        (
            expert.model,
            f"{expert.tensors:,}",
            f"{expert.realized_blocks:,}",
            size(expert.planned_bytes),
            merge_report.settings(expert.params),
        )
        for expert in found.experts
    ]
    yield from tables.aligned(rows, "lrrrl", ("EXPERT", "TENSORS", "BLOCKS", "PLANNED", "PARAMETERS"))


def _table(found: Explanation) -> Iterator[str]:
    models = [expert.model for expert in found.experts]
    rows = [
        (tensor.key, f"{tensor.changed_blocks}/{tensor.blocks}", *(_part(reach) for reach in tensor.experts))
        for tensor in found.tensors
    ]
    yield from tables.aligned(rows, "lr" + "r" * len(models), ("TENSOR", "CHANGED", *models))
    yield ""
    yield "of each expert: blocks read of those that differ from the base's; '=' none differs, '.' not known"


def _part(reach: Reach) -> str:
    """ "12/15", "=", "." in a table."""
    if not reach.realized_blocks and not reach.omitted_blocks:
        return "=" if reach.equal_blocks else "."
    if reach.omitted_blocks is None:
        return str(reach.realized_blocks)
    return f"{reach.realized_blocks}/{reach.realized_blocks + reach.omitted_blocks}"


def _in_full(found: Explanation) -> Iterator[str]:
    for tensor in found.tensors:
        yield from _tensor(found, tensor)


def _tensor(found: Explanation, tensor: TensorReach) -> Iterator[str]:
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    changed = f"{tensor.changed_blocks} of {plural(tensor.blocks, 'block')} changed"
    yield f"{tensor.key}  {tensor.dtype} {shape}, {changed}"
    for key, value in tensor.params.items():
        yield f"  {key}={value} here"
    for expert, reach in zip(found.experts, tensor.experts, strict=True):
        words = [f"read {reach.realized_blocks} of {reach.planned_blocks} planned"]
        if reach.stored_bytes is not None:
            words[0] += f" ({size(reach.stored_bytes)})"
        if reach.equal_blocks is not None:
            words.append(f"{reach.equal_blocks} equal the base's")
        if reach.omitted_blocks is not None:
            words.append(f"{reach.omitted_blocks} left out")
        if reach.threshold != "none":
            words.append(f"threshold {reach.threshold}")
        if reach.fallback:
            words.append(f"whole: {reach.fallback}")
        if reach.params:
            words.append(merge_report.settings(reach.params))
        yield f"  {expert.model}: {', '.join(words)}"
