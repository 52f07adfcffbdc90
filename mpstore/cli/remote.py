"""`mp remote`: the branches that came from the Hub, where from, and what is new there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, size
from mpstore.cli.session import Session
from mpstore.errors import MpError

if TYPE_CHECKING:
    from mpstore.api import Repository
    from mpstore.api.hub import Remote


@verb(
    "remote",
    """
  mp remote
  mp remote --look            # ask the Hub what each would bring
  mp pull math --dry-run      # the same of one, file by file
""",
)
@click.option("--look", is_flag=True, help="Ask the Hub what pulling each branch would bring.")
def command(session: Session, look: bool) -> None:
    """List the branches that were pulled: origin, and the Hub's commit that they hold."""
    repository = session.repository()
    found = repository.remotes()
    news = {remote.branch: _news(repository, remote) for remote in found} if look else {}
    session.answer(
        {"remotes": [{**_document(remote), **news.get(remote.branch, {})} for remote in found]},
        tables.aligned([_row(remote, news.get(remote.branch)) for remote in found], "llll")
        if found
        else ["no branch was pulled; mp pull hf://ORG/NAME --branch NAME does it"],
    )


def _document(remote: Remote) -> dict[str, Any]:
    return {"branch": remote.branch, **remote.origin.as_json(), "url": str(remote.origin.address)}


def _news(repository: Repository, remote: Remote) -> dict[str, Any]:
    """What the Hub has for a branch; of one that cannot be asked, why."""
    try:
        plan = repository.look(remote.branch)
    except MpError as error:
        return {"error": error.message}
    return {
        "current": plan.current,
        "remote_commit": plan.model.commit,
        "lacking_files": len(plan.lacking),
        "lacking_bytes": plan.lacking_bytes,
    }


def _row(remote: Remote, news: dict[str, Any] | None) -> list[str]:
    origin = remote.origin
    words = ["partial: what merges fetched"] if origin.partial else []
    words += [f"only {' '.join(origin.include)}"] if origin.include else []
    words += [f"without {' '.join(origin.exclude)}"] if origin.exclude else []
    if news is not None:
        words.append(_said(news, origin.commit))
    return [remote.branch, str(origin.address), origin.commit[:10], "; ".join(words)]


def _said(news: dict[str, Any], commit: str) -> str:
    if "error" in news:
        return str(news["error"])
    if news["current"]:
        return "nothing new"
    at = f", now at {news['remote_commit'][:10]}" if news["remote_commit"] != commit else ""
    return f"would fetch {plural(news['lacking_files'], 'file')} of {size(news['lacking_bytes'])}{at}"
