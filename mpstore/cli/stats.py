"""`mp stats`: what the repository holds and what it costs on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, share, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import Usage


@verb("stats")
def command(session: Session) -> None:
    """Show what the repository holds, what that costs on disk, by branch and by codec.

    OWN is what would go if the branch went and mp gc ran.
    """
    usage = session.repository().stats()
    session.answer(usage.as_json(), _lines(usage))


def _lines(usage: Usage) -> Iterator[str]:
    yield from tables.fields(
        [
            ("commits", f"{usage.commits:,}"),
            ("checkpoints", f"{size(usage.raw_bytes)} in all, as files"),
            ("distinct", f"{_of(usage.distinct_bytes, usage)}, in {usage.blocks:,} blocks"),
            ("stored", f"{_of(usage.stored_bytes, usage)}, in {usage.packs:,} packs"),
            ("index", _of(usage.index_bytes, usage)),
            ("statistics", _of(usage.stats_bytes, usage)),
            ("everything", f"{_of(usage.total_bytes, usage)}, all of .mp"),
        ]
    )
    if usage.unreachable_objects:
        yield (
            f"no branch or tag needs {plural(usage.unreachable_objects, 'object')}, "
            f"{size(usage.unreachable_bytes)}: mp gc --dry-run says which of them can go"
        )
    yield from _by_branch(usage)
    yield from _by_codec(usage)


def _by_branch(usage: Usage) -> Iterator[str]:
    branches = [
        (
            branch.name.partition("/")[2],
            f"{branch.commits:,}",
            size(branch.raw_bytes),
            f"{branch.blocks:,}",
            size(branch.stored_bytes),
            size(branch.own_bytes),
        )
        for branch in usage.branches
    ]
    if branches:
        yield ""
        yield from tables.aligned(
            branches, "lrrrrr", ("BRANCH OR TAG", "COMMITS", "RAW", "BLOCKS", "STORED", "OWN")
        )


def _by_codec(usage: Usage) -> Iterator[str]:
    codecs = [
        (
            codec.codec,
            f"{codec.blocks:,}",
            size(codec.raw_bytes),
            size(codec.stored_bytes),
            share(codec.stored_bytes, codec.raw_bytes),
        )
        for codec in usage.codecs
    ]
    if codecs:
        yield ""
        yield from tables.aligned(codecs, "lrrrr", ("CODEC", "BLOCKS", "RAW", "STORED", ""))


def _of(count: int, usage: Usage) -> str:
    return f"{size(count)}, {share(count, usage.raw_bytes)} of raw"
