"""`mp pull`: a model of the Hub into the store."""

from __future__ import annotations

from typing import Any

import click

from mpstore.cli import quantities
from mpstore.cli.options import message_option, threads_option, verb
from mpstore.cli.session import Session


@verb(
    "pull",
    """
  mp pull hf://Qwen/Qwen3-0.6B --branch base
  mp pull hf://org/math@v2 --branch math --base base --exclude '*.bin'
  mp pull math                                  # the same origin again
  mp pull math --dry-run                        # what would it bring?
""",
)
@click.argument("what", metavar="hf://ORG/NAME[@REV]|BRANCH")
@click.option("--branch", metavar="NAME", help="The branch that gets the commit (default: the model's name).")
@click.option("--base", metavar="REV", help="The model it was fine-tuned from (default: found by sampling).")
@click.option("--include", multiple=True, metavar="GLOB", help="Only files that fit. May be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Not these files. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would come, and fetch nothing.")
@message_option("What it is.")
@threads_option
def command(session: Session, what: str, dry_run: bool, **options: Any) -> None:
    """Fetch a model straight into the store, verified, and commit it on a branch.

    Nothing is kept beside the store. A pull that was cut off goes on where it was; one that finds nothing new
    reads no weights. Tokens, endpoint and offline mode are those of the Hub's own client.
    """
    repository = session.repository()
    branch, include, exclude = options["branch"], options["include"], options["exclude"]
    if dry_run:
        plan = repository.look(what, branch=branch, include=include, exclude=exclude)
        session.answer(
            {
                "branch": plan.branch,
                "origin": {"repo": plan.model.address.repo_id, "commit": plan.model.commit},
                "current": plan.current,
                "files": [
                    {"path": file.path, "raw_bytes": file.size, "lacking": file in plan.lacking}
                    for file in plan.files
                ],
                "lacking_bytes": plan.lacking_bytes,
            },
            _would(plan),
        )
        return
    session.kept = "no branch has moved; what was fetched is found again by the next pull"
    pulled = repository.pull(
        what,
        branch=branch,
        base=options["base"],
        include=include,
        exclude=exclude,
        message=options["message"],
        author=session.author(repository),
        threads=options["threads"],
    ).as_json()
    session.report(pulled, _lines(pulled))


def _would(plan: Any) -> list[str]:
    head = f"{plan.branch}: {plan.model.address} is at {plan.model.commit[:10]}"
    if plan.current:
        return [f"{head}; nothing new"]
    rows = [f"  {quantities.size(file.size):>10}  {file.path}" for file in plan.lacking]
    return [f"{head}; would fetch {quantities.size(plan.lacking_bytes)}:", *rows]


def _lines(pulled: dict[str, Any]) -> list[str]:
    at = f"{pulled['origin']['repo']} at {pulled['origin']['commit'][:10]}"
    if not pulled["new"]:
        return [f"{pulled['branch']}: {pulled['commit'][:10]}  nothing new ({at})"]
    against = f", against {pulled['base']}" if pulled["base"] else ""
    resumed = (
        f", {quantities.size(pulled['resumed_bytes'])} were here already" if pulled["resumed_bytes"] else ""
    )
    return [
        f"{pulled['branch']}: {pulled['commit'][:10]}  {at}, "
        f"{quantities.plural(pulled['tensors'], 'tensor')}{against}",
        f"  fetched {quantities.size(pulled['received_bytes'])}{resumed}; "
        f"{quantities.size(pulled['raw_bytes'])} took {quantities.size(pulled['stored_bytes'])} of disk "
        f"in {quantities.seconds(pulled['seconds'])}",
    ]
