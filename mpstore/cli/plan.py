"""`mp plan`: show what a merge would read, keep and omit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from mpstore import files
from mpstore.cli import merge_report, tables
from mpstore.cli.merge_options import memory_bytes, merge_options, only_plan, request
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, share, size
from mpstore.cli.session import Session
from mpstore.errors import UsageError
from mpstore.merge import plan_report


@verb(
    "plan",
    """
  mp plan recipe.yml --budget 25%
  mp plan --base base --expert math --expert code --op linear --plot curve.png
  mp plan --plan 3f2a9c                            show a stored plan
""",
)
@click.argument("recipe", required=False, metavar="[RECIPE.yml]")
@merge_options
@click.option("--plot", metavar="F.png", help="Draw the curve of bound over budget (needs matplotlib).")
def command(
    session: Session,
    recipe: str | None,
    plan_id: str | None,
    plot: str | None,
    threads: int | None,
    memory: str | None,
    **what: Any,
) -> None:
    """Show what a merge would read, keep and omit, the bound on its error, and the bound over budget.

    Takes the arguments of mp merge. Nothing of the models is read; of one on the Hub only the headers are
    fetched. The plan is stored, where the repository can be written to: mp merge --plan ID executes it.
    """
    picture = None if plot is None else session.output_path(plot, "--plot")
    asked = request(recipe if recipe is None else str(session.path(recipe)), **what)
    if plan_id is not None:
        only_plan(asked)
    planned = session.repository().plan(
        **asked, plan=plan_id, threads=threads, memory_bytes=memory_bytes(memory)
    )
    value = planned.as_json()
    if picture is not None:
        _draw(value, picture)
        value["plot"] = plot
    report_plan(session, value)


def report_plan(session: Session, value: dict[str, Any]) -> None:
    """Print a plan; `mp merge --dry-run` does too."""
    lines = [
        f"plan {value['plan'][:10]}  {value['operator']} of {plural(len(value['experts']), 'expert')} onto "
        f"{value['base']}, by {value['policy']}",
        "",
        *tables.aligned(
            [
                (
                    expert["model"],
                    expert["commit"][:10],
                    size(expert["planned_bytes"]),
                    share(expert["planned_bytes"], expert["raw_bytes"]),
                    merge_report.settings(expert["params"]),
                )
                for expert in value["experts"]
            ],
            "llrrl",
            ("EXPERT", "COMMIT", "READ", "OF RAW", "PARAMETERS"),
        ),
        "",
        merge_report.reading(value, value["planned_bytes"], "reads"),
        f"all of it is stored in {size(value['full_stored_bytes'])}: "
        f"{share(value['full_stored_bytes'], value['full_raw_bytes'])} of raw, and a budget of that is exact",
        merge_report.exactness(value),
    ]
    lines += merge_report.tighter(value)
    lines += merge_report.network(value)
    if value["binding"] not in ("none", ""):
        lines.append(f"what binds: {value['binding'].replace('_', ' ')}")
    lines += merge_report.by_whole_tensors(value)
    if any(point["bound"] < math.inf and not point["exact"] for point in value["curve"]):
        lines += ["", *merge_report.curve(value)]
    session.answer(value, lines)


def _draw(value: dict[str, Any], path: Path) -> None:
    """The curve as a picture."""
    if not value["curve"]:
        raise UsageError("a stored plan has no curve to draw", hint="plan again, with the recipe and --plot")
    image = plan_report.picture(value, value["curve"], path.suffix)
    files.write_whole(path, image, path.parent, durable=False)
