"""`mp merge`: merge experts into a base, reading no more than a budget."""

from __future__ import annotations

from typing import Any

import click

from mpstore.cli import merge_report
from mpstore.cli.merge_options import memory_bytes, merge_options, only_plan, request
from mpstore.cli.options import message_option, verb
from mpstore.cli.quantities import plural, seconds, size
from mpstore.cli.session import Session
from mpstore.errors import UsageError


@verb(
    "merge",
    """
  mp merge recipe.yml --branch merged
  mp merge --base base --expert math:weight=1,density=.2 --expert code:weight=1,density=.2 \\
           --op ties --budget 25% --branch merged
  mp merge … --max-error 1e-3 --branch merged      read as little as keeps this bound
  mp merge --plan 3f2a9c --branch merged           execute what mp plan stored
""",
)
@click.argument("recipe", required=False, metavar="[RECIPE.yml]")
@click.option("--branch", metavar="NAME", help="The branch that gets the commit (--dry-run needs none).")
@merge_options
@message_option("Why.")
@click.option("--dry-run", is_flag=True, help="Plan and report, but read and write nothing.")
def command(
    session: Session,
    recipe: str | None,
    branch: str | None,
    message: str,
    dry_run: bool,
    plan_id: str | None,
    threads: int | None,
    memory: str | None,
    **what: Any,
) -> None:
    """Merge experts into a base and commit the result on a branch.

    What is merged is said by a recipe (YAML, as mergekit's) or by --base, --expert and --op. With --budget
    only the most valuable blocks of the experts are read, never more bytes than the budget; what is left out
    counts as unchanged from the base, and the error that this can make is bounded.
    """
    asked = request(recipe if recipe is None else str(session.path(recipe)), **what)
    if plan_id is not None:
        only_plan(asked)
    if branch is None and not dry_run:
        raise UsageError("which branch gets the merge?", hint="mp merge … --branch NAME, or --dry-run")
    repository = session.repository()
    limits: dict[str, Any] = {"threads": threads, "memory_bytes": memory_bytes(memory)}
    if dry_run:
        from mpstore.cli.plan import report_plan

        report_plan(session, repository.plan(**asked, plan=plan_id, **limits, store=False).as_json())
        return
    assert branch is not None, "checked above"
    session.kept = f"{branch} is where it was; what was merged so far is found again by the next try"
    merged = repository.merge(
        **asked, plan=plan_id, branch=branch, message=message, author=session.author(repository), **limits
    ).as_json()
    session.report(merged, _lines(merged))


def _lines(merged: dict[str, Any]) -> list[str]:
    written = f"{plural(merged['new_blocks'], 'new block')} ({size(merged['written_bytes'])})"
    return [
        f"{merged['branch']}: {merged['commit'][:10]}  {merged['operator']} of "
        f"{plural(len(merged['experts']), 'expert')}, plan {merged['plan'][:10]}",
        f"  {merge_report.reading(merged, merged['expert_read_bytes'], 'read')}",
        f"  and {size(merged['base_read_bytes'])} of the base; wrote {written}, "
        f"{merged['reused_blocks']:,} were there already",
        *([f"  {size(merged['received_bytes'])} came over the network"] if merged["received_bytes"] else []),
        f"  {merge_report.exactness(merged)}",
        f"  {seconds(merged['seconds'])}",
    ]
