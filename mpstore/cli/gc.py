"""`mp gc`: remove what nothing needs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mpstore.cli import quantities
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, seconds, size
from mpstore.cli.session import Session
from mpstore.codecs.formats import Level
from mpstore.errors import StorageError

if TYPE_CHECKING:
    from mpstore.api import GcReport


@verb(
    "gc",
    """
  mp gc --dry-run                      what would go
  mp gc --keep-reflog 7d               also what only reflogs older than a week know
  mp gc --repack --compression max     make what stays smaller
  mp gc --drop-sessions old-machine    its commands will never end: it is gone
""",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--keep-reflog",
    metavar="AGE",
    default="30d",
    show_default=True,
    help="Keep what reflog entries of this age know: 30d, 12h, 0.",
)
@click.option(
    "--repack",
    is_flag=True,
    help="Rewrite packs that have anything dead; put small ones together; let go of bases that "
    "only deltas need, where that takes less.",
)
@click.option(
    "--compression",
    type=click.Choice([level.value for level in Level]),
    help="Encode every block anew at this level, and as a delta of a parent's, where that is smaller.",
)
@click.option(
    "--drop-sessions",
    "dropped",
    multiple=True,
    metavar="HOST|SESSION",
    help="Declare commands of another host dead, that nothing here can know to have ended. Repeat.",
)
def command(
    session: Session,
    dry_run: bool,
    keep_reflog: str,
    repack: bool,
    compression: str | None,
    dropped: tuple[str, ...],
) -> None:
    """Remove what no branch, tag, recent reflog entry, running command or stored delta needs.

    Safe while other commands read and write, and may be interrupted at any moment. Only --drop-sessions is up
    to you: a command that still runs on that host loses what it is about to commit.
    """
    session.kept = "whatever is needed is still there; the next mp gc goes on"
    repository = session.repository()
    try:
        report = repository.gc(
            dry_run=dry_run,
            keep_reflog_seconds=quantities.parse_age(keep_reflog, "--keep-reflog"),
            repack=repack,
            compression=compression,
            drop_sessions=dropped,
        )
    except StorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            cache = repository.mp_dir / "cache"  # whoever is here has come to free space
            error.hint = f"gc needs some space to begin: {cache} may be deleted, it is made anew"
        raise
    session.report(report.as_json(), _lines(report))


def _lines(report: GcReport) -> Iterator[str]:
    verb = "would remove" if report.dry_run else "removed"
    yield (
        f"{verb} {plural(report.removed_objects, 'object')}: {size(report.removed_bytes)} "
        f"in {plural(report.removed_packs, 'pack')}"
    )
    if report.repacked_packs:
        yield (
            f"{'would rewrite' if report.dry_run else 'rewrote'} {plural(report.repacked_packs, 'pack')}: "
            f"{size(report.repack_read_bytes)} into {size(report.repack_written_bytes)}"
        )
    if report.kept_for_deltas_objects:
        yield (
            f"kept {plural(report.kept_for_deltas_objects, 'object')} "
            f"({size(report.kept_for_deltas_bytes)}) that stored deltas lean on"
        )
    if report.released_bases_objects:
        gone = f"{plural(report.released_bases_objects, 'base')} ({size(report.released_bases_bytes)})"
        yield (
            f"{'would let' if report.dry_run else 'let'} go of {gone} that only deltas needed: "
            f"{plural(report.rebased_objects, 'block')} anew, {size(report.rebased_growth_bytes)} more"
        )
    if report.given_bases_objects:
        yield f"encoded {plural(report.given_bases_objects, 'block')} as deltas that had no base"
    if report.removed_temporary_files:
        yield f"{verb} {plural(report.removed_temporary_files, 'temporary file')} of commands that are over"
    if report.removed_reflog_entries:
        yield f"{verb} {plural(report.removed_reflog_entries, 'entry')} of reflogs"
    yield from _sessions(report)
    for pack in report.damaged_packs:
        yield f"pack {pack} is damaged and was left as it is: mp fsck says more"
    yield (
        f"packs: {size(report.pack_bytes_before)} before, {size(report.pack_bytes_after)} after; "
        f"{plural(report.live_objects, 'object')} in use, {seconds(report.seconds)}"
    )


def _sessions(report: GcReport) -> Iterator[str]:
    """Who holds what, and what can be done about it."""
    for label in report.kept_by_sessions:
        yield f"kept what a running command needs: {label}"
    for label in report.foreign_sessions:
        yield f"kept what another host's command may need: {label}"
    if report.foreign_sessions:
        yield (
            "if that host is gone for good, or the command has ended: mp gc --drop-sessions HOST|SESSION "
            "(if it still runs, it loses what it is about to commit)"
        )
    for label in report.dead_sessions:
        yield f"{'would sweep' if report.dry_run else 'swept'} what a killed command left: {label}"
    for label in report.dropped_sessions:
        yield f"{'would declare' if report.dry_run else 'declared'} dead: {label}"
