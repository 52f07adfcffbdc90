"""`mp fsck`: check that nothing is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, seconds, size
from mpstore.cli.session import Session
from mpstore.errors import UsageError

if TYPE_CHECKING:
    from mpstore.api import Damage, FsckReport

_SHOWN = 20


@verb(
    "fsck",
    """
  mp fsck                                is everything there that is needed?
  mp fsck --read-data                    and is every byte what it was?
  mp fsck --read-data-subset 2/7         a seventh of the data: the second
  mp fsck --repair --from ./backup       mend, with copies from elsewhere
""",
)
@click.option("--read-data", is_flag=True, help="Read and decode every object.")
@click.option("--read-data-subset", "subset", metavar="n/t|x%|SIZE", help="Read only a part of the data.")
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="DIR",
    help="With --repair: a checkpoint or repository with copies. Repeat.",
)
@click.pass_context
def command(
    context: click.Context,
    session: Session,
    read_data: bool,
    subset: str | None,
    repair: bool,
    sources: tuple[str, ...],
) -> None:
    """Check that everything branches and tags need is there, and with --read-data that it is undamaged.

    Exit code 4: something is damaged (or remains so after --repair). Names what, and what that touches.
    """
    if sources and not repair:
        raise UsageError("--from says where to mend from: it goes with --repair")
    if read_data and subset is not None:
        raise UsageError("--read-data reads all, --read-data-subset a part: give one of them")
    session.kept = "checking changes nothing" if not repair else "what was mended stays mended"
    report = session.repository().fsck(
        read_data=read_data,
        subset=subset,
        repair=repair,
        sources=[str(session.path(source)) for source in sources],
    )
    session.answer(report.as_json(), _lines(report))
    if report.exit_code:
        context.exit(report.exit_code)


def _lines(report: FsckReport) -> Iterator[str]:
    yield from _several("damaged", report.damage)
    if not report.repaired:
        yield from _several("note", report.notes)
    for touched in report.touched[:_SHOWN]:
        names = ", ".join(ref.partition("/")[2] for ref in touched.refs) or "no branch"
        lost = plural(touched.objects, "object")
        yield f"touched: {touched.tensor or 'the commit itself'} of {touched.commit[:10]} ({names}): {lost}"
    if len(report.touched) > _SHOWN:
        yield f"touched: and {len(report.touched) - _SHOWN:,} more; --json lists all"
    for done in report.repaired:
        yield f"repaired: {done}"
    if report.repaired:
        yield from _several("still damaged", report.damage_left)
    read = (
        f", {plural(report.read_objects, 'object')} read ({size(report.read_bytes)})"
        if report.read_bytes
        else ""
    )
    verdict = "damaged" if report.damage_left else "no damage"
    yield (
        f"{verdict}: {plural(report.packs, 'pack')}, {plural(report.objects, 'object')}, "
        f"{report.reachable_objects:,} in use{read}, {seconds(report.seconds)}"
    )


def _several(label: str, damage: tuple[Damage, ...]) -> Iterator[str]:
    for one in damage[:_SHOWN]:
        yield f"{label}: {one.what} {one.name[:64]}: {one.detail}"
    if len(damage) > _SHOWN:
        yield f"{label}: and {len(damage) - _SHOWN:,} more; --json lists all"
