"""`mp show`: one commit: parents, files, how it was made."""

from __future__ import annotations

from typing import Any

import click

from mpstore.cli import commits, tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, size
from mpstore.cli.session import Session


@verb("show")
@click.argument("revision", metavar="REV")
def command(session: Session, revision: str) -> None:
    """Show the commit REV: its parents, its files, and how it was made."""
    shown = session.repository().show(revision)
    value: dict[str, Any] = commits.as_json(shown.info) | {
        "files": [
            {"path": file.path, "kind": file.kind, "raw_bytes": file.size, "sha256": file.sha256}
            for file in shown.files
        ],
        "tensors": shown.tensors,
        "blocks": shown.blocks,
        "raw_bytes": shown.raw_bytes,
    }
    lines = [
        *commits.in_full(shown.info),
        "",
        f"manifest {shown.info.commit.manifest.hex()[:10]}: {plural(shown.tensors, 'tensor')}, "
        f"{plural(shown.blocks, 'block')}, {size(shown.raw_bytes)}",
        *tables.aligned(
            [(f"  {file.path}", size(file.size), f"{_sha256(file.sha256)}") for file in shown.files],
            "lrl",
        ),
    ]
    how = shown.info.commit.how
    figures = how.get("figures")
    if figures:
        lines += [
            "",
            "figures of the merge:",
            *(f"  {key}: {_said(figures[key])}" for key in sorted(figures)),
        ]
    if how.get("recipe"):
        lines += ["", "recipe:", *(f"  {line}" for line in str(how["recipe"]).splitlines())]
    session.answer(value, lines)


def _said(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _sha256(digest: bytes) -> str:
    """A merged file's SHA-256 is not known before it is checked out."""
    return f"sha256 {digest.hex()[:12]}" if digest else ""
