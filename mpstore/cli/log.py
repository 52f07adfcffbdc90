"""`mp log`: the commits that lead to a revision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mpstore.cli import commits
from mpstore.cli.graph import draw
from mpstore.cli.options import verb
from mpstore.cli.session import Session
from mpstore.errors import UsageError

if TYPE_CHECKING:
    from mpstore.api import CommitInfo


@verb(
    "log",
    """
  mp log                         all branches and tags
  mp log merged --graph --oneline
  mp log merged -n 5
  mp log --dot | dot -Tsvg > lineage.svg
""",
)
@click.argument("revision", required=False, metavar="[REV]")
@click.option("--graph", is_flag=True, help="Draw how the commits hang together.")
@click.option("--oneline", is_flag=True, help="One line a commit.")
@click.option("--dot", is_flag=True, help="The lineage as a graph in DOT, for Graphviz.")
@click.option("-n", "limit", type=click.IntRange(0), metavar="N", help="Only the first N commits.")
def command(
    session: Session, revision: str | None, graph: bool, oneline: bool, dot: bool, limit: int | None
) -> None:
    """Show the commits that lead to REV, newest first: its past, and that of every base and expert.

    Without REV: those of every branch and tag.
    """
    shown = session.repository().log(revision, limit=limit)
    if dot:
        if graph or oneline or session.as_json:
            raise UsageError("--dot is a form of its own: it goes with no other")
        from mpstore.api import lineage_dot

        session.answer({}, lineage_dot(shown).splitlines())
        return
    value = {"commits": [commits.as_json(info) for info in shown]}
    lines = _drawn(shown, oneline) if graph else _listed(shown, oneline)
    session.answer(value, lines)


def _text(info: CommitInfo, oneline: bool) -> list[str]:
    return [commits.one_line(info)] if oneline else [*commits.in_full(info), ""]


def _listed(shown: tuple[CommitInfo, ...], oneline: bool) -> Iterator[str]:
    for info in shown:
        yield from _text(info, oneline)


def _drawn(shown: tuple[CommitInfo, ...], oneline: bool) -> Iterator[str]:
    """Each commit's text beside its star; further lines of the text run beside the lanes that go on."""
    infos = {info.id: info for info in shown}
    for line in draw([(info.id, [parent.commit for parent in info.commit.parents]) for info in shown]):
        if line.node is None:
            yield line.art
            continue
        first, *more = _text(infos[line.node], oneline)
        below = line.art.replace("*", "|" if infos[line.node].commit.parents else " ")
        yield f"{line.art} {first}"
        yield from (f"{below} {text}".rstrip() for text in more)
