"""`mp push`: a revision to the Hub."""

from __future__ import annotations

import click

from mpstore.cli import quantities
from mpstore.cli.options import message_option, verb
from mpstore.cli.session import Session


@verb(
    "push",
    """
  mp push merged hf://me/my-merge --private
  mp push merged~1 hf://me/my-merge --branch previous
""",
)
@click.argument("revision", metavar="REV")
@click.argument("target", metavar="hf://ORG/NAME")
@click.option("--private", is_flag=True, help="Where the repository is created: only you see it.")
@click.option("--branch", metavar="B", help="The Hub's branch (default: main).")
@message_option("The Hub commit's message.")
def command(
    session: Session, revision: str, target: str, private: bool, branch: str | None, message: str
) -> None:
    """Make a model on the Hub hold exactly the files of REV, streamed from the store.

    Files the Hub has already are not sent. If somebody commits there meanwhile, nothing changes and the exit
    code is 5.
    """
    repository = session.repository()
    session.kept = "whether the Hub has made the commit is not known; pushing again looks first"
    pushed = repository.push(revision, target, private=private, branch=branch, message=message)
    files = f"{quantities.plural(pushed.sent_files, 'file')} of {quantities.size(pushed.raw_bytes)}"
    lines = (
        [
            f"{pushed.address}: {pushed.parent[:10]} -> {pushed.remote_commit[:10]}, "
            f"{files} in {quantities.seconds(pushed.seconds)}",
            f"  {pushed.url}",
        ]
        if pushed.new
        else [f"{pushed.address} has exactly these files at {pushed.remote_commit[:10]}; nothing was sent"]
    )
    session.report(pushed.as_json(), lines)
