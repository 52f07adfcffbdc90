"""`mp branch`: list, create, move or delete branches."""

from __future__ import annotations

import click

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.session import Session
from mpstore.errors import UsageError


@verb(
    "branch",
    """
  mp branch                        list
  mp branch experiment math        create at where math is
  mp branch -f experiment math~2   move
  mp branch -d experiment          delete (mp reflog experiment still knows it)
""",
)
@click.argument("name", required=False, metavar="[NAME")
@click.argument("revision", required=False, metavar="REV]")
@click.option("-d", "--delete", is_flag=True, help="Delete the branch NAME.")
@click.option("-f", "--force", is_flag=True, help="Move the branch if it exists.")
def command(session: Session, name: str | None, revision: str | None, delete: bool, force: bool) -> None:
    """List branches, or create, move or delete one."""
    if name is None and (delete or force):
        raise UsageError("which branch?", hint="mp branch -d NAME, or mp branch -f NAME REV")
    repository = session.repository()
    if name is None:
        branches = repository.branches()
        listed = [
            {"branch": b.name, "commit": b.commit, "message": b.message, "time_ns": b.time_ns}
            for b in branches
        ]
        rows = [(b.name, b.commit.hex()[:10], _first_line(b.message)) for b in branches]
        session.answer({"branches": listed}, tables.aligned(rows, "lll"))
    elif delete:
        if revision is not None:
            raise UsageError("a branch is deleted by its name alone", hint=f"mp branch -d {name}")
        old = repository.delete_branch(name, author=session.author(repository))
        session.report(
            {"branch": name, "deleted": old}, [f"deleted branch {name} (it was at {old.hex()[:10]})"]
        )
    else:
        if revision is None:
            raise UsageError(f"where shall {name} point?", hint=f"mp branch {name} REV")
        commit = repository.create_branch(name, revision, force=force, author=session.author(repository))
        session.report({"branch": name, "commit": commit}, [f"branch {name} is at {commit.hex()[:10]}"])


def _first_line(message: str) -> str:
    return message.splitlines()[0] if message else ""
