"""`mp remote`: the branches that came from the Hub, and where from."""

from __future__ import annotations

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.session import Session


@verb(
    "remote",
    """
  mp remote
  mp pull math --dry-run      # what would it bring?
""",
)
def command(session: Session) -> None:
    """List the branches that were pulled: origin, and the Hub's commit that they hold."""
    found = session.repository().remotes()
    rows = [[remote.branch, str(remote.origin.address), remote.origin.commit[:10]] for remote in found]
    session.answer(
        {
            "remotes": [
                {"branch": remote.branch, **remote.origin.as_json(), "url": str(remote.origin.address)}
                for remote in found
            ]
        },
        tables.aligned(rows, "lll")
        if found
        else ["no branch was pulled; mp pull hf://ORG/NAME --branch NAME does it"],
    )
