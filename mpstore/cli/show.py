"""`mp show`: one commit: parents, files, how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mpstore.cli import commits, merge_report, tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import PlanSummary


@verb("show")
@click.argument("revision", metavar="REV")
def command(session: Session, revision: str) -> None:
    """Show the commit REV: its parents, its files, and how it was made."""
    shown = session.repository().show(revision)
    value: dict[str, Any] = commits.as_json(shown.info) | {
        "files": [
            {"path": file.path, "kind": file.kind, "raw_bytes": file.size, "sha256": file.sha256}
            for file in shown.files
        ],
        "lacking_tensors": shown.lacking,
        "tensors": shown.tensors,
        "blocks": shown.blocks,
        "raw_bytes": shown.raw_bytes,
    }
    lines = [
        *commits.in_full(shown.info),
        "",
        f"manifest {shown.info.commit.manifest.hex()[:10]}: {plural(shown.tensors, 'tensor')}, "
        f"{plural(shown.blocks, 'block')}, {size(shown.raw_bytes)}",
        *tables.aligned(
            [(f"  {file.path}", size(file.size), f"{_sha256(file.sha256)}") for file in shown.files],
            "lrl",
        ),
    ]
    if shown.lacking:
        branch = next((ref for ref in shown.info.refs if ref.startswith("heads/")), "")
        pull = f"mp pull {branch.removeprefix('heads/')}" if branch else "mp pull of its branch"
        lines.append(f"{plural(shown.lacking, 'tensor')} never fetched: {pull} brings what lacks")
    how = shown.info.commit.how
    if shown.plan is not None:
        lines += ["", *_plan_lines(shown.plan)]
    if how.get("recipe"):
        lines += ["", "recipe:", *(f"  {line}" for line in str(how["recipe"]).splitlines())]
    session.answer(value, lines)


def _plan_lines(plan: PlanSummary) -> list[str]:
    """What a merge's plan allowed and gave up."""
    experts = ", ".join(f"{expert.model} {size(expert.planned_bytes)}" for expert in plan.experts)
    return [
        f"plan {plan.id.hex()[:10]}: {plan.operator} onto {plan.base_model}, by {plan.policy}",
        f"  {merge_report.reading(vars(plan), plan.planned_bytes, 'planned to read')}",
        f"  of them {experts}",
        f"  {merge_report.exactness(vars(plan))}",
    ]


def _sha256(digest: bytes) -> str:
    """A merged file's SHA-256 is not known before it is checked out."""
    return f"sha256 {digest.hex()[:12]}" if digest else ""
