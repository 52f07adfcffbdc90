"""`mp checkout`: write a revision as a directory."""

from __future__ import annotations

import click

from mpstore.cli import quantities
from mpstore.cli.options import threads_option, verb
from mpstore.cli.session import Session


@verb(
    "checkout",
    """
  mp checkout merged ./out
  mp checkout merged~1 ./out --force
  mp checkout merged ./norms --tensor '*norm*'
""",
)
@click.argument("revision", metavar="REV")
@click.argument("directory", metavar="DIR")
@click.option("--tensor", "tensors", multiple=True, metavar="GLOB", help="Only these tensors. Repeat.")
@click.option("--force", is_flag=True, help="Replace DIR if it is there.")
@click.option("--update", is_flag=True, help="Rewrite only what differs in DIR.")
@threads_option
def command(
    session: Session,
    revision: str,
    directory: str,
    tensors: tuple[str, ...],
    force: bool,
    update: bool,
    threads: int | None,
) -> None:
    """Write REV into the directory DIR, byte for byte as it was added.

    DIR appears whole or not at all. Every file is checked against its SHA-256.
    """
    session.kept = f"{directory} is as it was"
    done = session.repository().checkout(
        revision, session.path(directory), tensors=tensors, force=force, update=update, threads=threads
    )
    value = done.as_json()
    session.report(
        value,
        [
            f"{directory}: {quantities.plural(value['files'], 'file')}, "
            f"{quantities.size(value['raw_bytes'])} in {quantities.seconds(value['seconds'])}"
        ],
    )
