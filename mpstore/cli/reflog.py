"""`mp reflog`: where a branch or tag has pointed."""

from __future__ import annotations

import click

from mpstore.cli import quantities, tables
from mpstore.cli.options import verb
from mpstore.cli.session import Session


@verb("reflog")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("-n", "limit", type=click.IntRange(1), help="Only the newest N entries.")
def command(session: Session, name: str | None, limit: int | None) -> None:
    """Show where the branch or tag NAME has pointed, newest first; without NAME, every one of them.

    A deleted branch keeps its entries: mp branch NAME ID brings it back.
    """
    entries = session.repository().reflog(name)[:limit]
    listed = [
        {
            "name": _plain_name(entry.name),
            "sequence": entry.seq,
            "old": entry.old,
            "new": entry.new,
            "time_ns": entry.time_ns,
            "who": entry.who,
            "why": entry.why,
        }
        for entry in entries
    ]
    rows = [
        (
            entry.new.hex()[:10] if entry.new else "(deleted)",
            quantities.when(entry.time_ns),
            entry.name,
            entry.why,
        )
        for entry in entries
    ]
    session.answer({"entries": listed}, tables.aligned(rows, "llll"))


def _plain_name(name: str) -> str:
    """ "heads/math" as people write it."""
    return name.removeprefix("heads/").removeprefix("tags/")
