"""`mp tag`: list, create or delete tags."""

from __future__ import annotations

import click

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.session import Session
from mpstore.errors import UsageError


@verb(
    "tag",
    """
  mp tag                   list
  mp tag v1 merged         name where merged is now; the tag stays there
  mp tag -d v1             delete
""",
)
@click.argument("name", required=False, metavar="[NAME")
@click.argument("revision", required=False, metavar="REV]")
@click.option("-d", "--delete", is_flag=True, help="Delete the tag NAME.")
def command(session: Session, name: str | None, revision: str | None, delete: bool) -> None:
    """List tags, or create or delete one. A tag never moves."""
    if name is None and delete:
        raise UsageError("which tag?", hint="mp tag -d NAME")
    repository = session.repository()
    if name is None:
        tags = repository.tags()
        listed = [
            {"tag": t.name, "commit": t.commit, "message": t.message, "time_ns": t.time_ns} for t in tags
        ]
        rows = [(t.name, t.commit.hex()[:10], t.message.partition("\n")[0]) for t in tags]
        session.answer({"tags": listed}, tables.aligned(rows, "lll"))
    elif delete:
        if revision is not None:
            raise UsageError("a tag is deleted by its name alone", hint=f"mp tag -d {name}")
        old = repository.delete_tag(name, author=session.author(repository))
        session.report({"tag": name, "deleted": old}, [f"deleted tag {name} (it was at {old.hex()[:10]})"])
    else:
        if revision is None:
            raise UsageError(f"what shall {name} name?", hint=f"mp tag {name} REV")
        commit = repository.create_tag(name, revision, author=session.author(repository))
        session.report({"tag": name, "commit": commit}, [f"tag {name} is at {commit.hex()[:10]}"])
