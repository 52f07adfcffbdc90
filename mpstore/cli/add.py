"""`mp add`: store a checkpoint and commit it on a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpstore.cli import quantities
from mpstore.cli.options import threads_option, verb
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import CommitKind


@verb(
    "add",
    """
  mp add ./base --branch base
  mp add ./math --branch math --base base -m "fine-tuned on GSM8K"
  mp add adapter.safetensors --branch tuned --kind delta --base base
""",
)
@click.argument("path")
@click.option("--branch", required=True, metavar="NAME", help="The branch that gets the commit.")
@click.option("--base", metavar="REV", help="The model it was fine-tuned from (default: found by sampling).")
@click.option(
    "--kind", type=click.Choice(["full", "delta", "lora"]), help="What the tensors are (default: found out)."
)
@click.option("-m", "--message", default="", metavar="MSG", help="What it is.")
@threads_option
def command(
    session: Session,
    path: str,
    branch: str,
    base: str | None,
    kind: CommitKind | None,
    message: str,
    threads: int | None,
) -> None:
    """Store the checkpoint PATH (a directory, or one .safetensors file) and commit it on a branch.

    Blocks that the store has are not stored again, and the rest is encoded against the base where that is
    smaller. With a base, the statistics that plans are made from are computed on the way.
    """
    repository = session.repository()
    session.kept = f"{branch} is where it was; blocks already stored are found again by the next try"
    result = repository.add(
        session.path(path),
        branch=branch,
        base=base,
        kind=kind,
        message=message,
        author=session.author(repository),
        threads=threads,
    )
    added = result.as_json()
    unchanged = [f"{branch} has this very checkpoint already ({added['commit'][:10]}); nothing to commit"]
    session.report(added, _lines(added) if result.committed.created else unchanged)


def _lines(added: dict[str, object]) -> list[str]:
    count = {key: value for key, value in added.items() if isinstance(value, int)}
    against = f", against {added['base']}" if added.get("base") else ""
    new, blocks = count["new_blocks"], count["blocks"]
    return [
        f"{added['branch']}: {str(added['commit'])[:10]}  {quantities.plural(count['tensors'], 'tensor')}, "
        f"{quantities.plural(blocks, 'block')}, {new:,} new{against}",
        f"  {quantities.size(count['raw_bytes'])} took {quantities.size(count['stored_bytes'])} of disk "
        f"({quantities.share(count['stored_bytes'], count['raw_bytes'])}) in "
        f"{quantities.seconds(float(str(added['seconds'])))}",
    ]
