"""`mp replay`: execute a merge's plan again and compare the result."""

from __future__ import annotations

import click

from mpstore.cli.options import threads_option, verb
from mpstore.cli.quantities import seconds
from mpstore.cli.session import Session


@verb("replay")
@click.argument("revision", metavar="REV")
@threads_option
@click.pass_context
def command(context: click.Context, session: Session, revision: str, threads: int | None) -> None:
    """Execute the plan of the merge commit REV again and compare manifest ids.

    Exit code 0: the same, bit for bit. 1: not the same. No branch moves.
    """
    session.kept = "no branch moves in a replay"
    replayed = session.repository().replay(revision, threads=threads)
    value = replayed.as_json()
    verdict = (
        "the same, bit for bit" if value["same"] else f"DIFFERENT: got {value['replayed_manifest'][:10]}"
    )
    lines = [
        f"{revision}: plan {value['plan'][:10]} gave manifest {value['manifest'][:10]}; replayed, {verdict}",
        f"  {seconds(value['seconds'])}",
    ]
    session.answer(value, lines)
    if not value["same"]:
        context.exit(1)
