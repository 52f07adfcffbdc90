"""`mp ls`: the files and tensors of a revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import plural, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import Repository


@verb(
    "ls",
    """
  mp ls                    the branches and what they hold
  mp ls merged             files and tensors
  mp ls merged '*norm*'    tensors whose names match
""",
)
@click.argument("revision", required=False, metavar="[REV]")
@click.argument("patterns", nargs=-1, metavar="[GLOB]…")
def command(session: Session, revision: str | None, patterns: tuple[str, ...]) -> None:
    """List the files and tensors of REV; without REV, the branches and what each holds."""
    repository = session.repository()
    if revision is None:
        _branches(session, repository)
        return
    listing = repository.ls(revision, patterns)
    value = {
        "commit": listing.commit,
        "files": [{"path": file.path, "kind": file.kind, "raw_bytes": file.size} for file in listing.files],
        "tensors": [
            {
                "tensor": tensor.key,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "blocks": tensor.blocks,
                "raw_bytes": tensor.raw_bytes,
            }
            for tensor in listing.tensors
        ],
    }
    files = [(size(file.size), file.path) for file in listing.files]
    tensors = [
        (size(tensor.raw_bytes), tensor.dtype, "×".join(map(str, tensor.shape)) or "scalar", tensor.key)
        for tensor in listing.tensors
    ]
    lines = [*tables.aligned(files, "rl", ("SIZE", "FILE"))] if not patterns else []
    if lines and tensors:
        lines.append("")
    lines += tables.aligned(tensors, "rlrl", ("SIZE", "DTYPE", "SHAPE", "TENSOR"))
    session.answer(value, lines)


def _branches(session: Session, repository: Repository) -> None:
    held = [(branch, repository.show(branch.commit.hex())) for branch in repository.branches()]
    listed = [
        {
            "branch": branch.name,
            "commit": branch.commit,
            "files": len(shown.files),
            "tensors": shown.tensors,
            "raw_bytes": shown.raw_bytes,
        }
        for branch, shown in held
    ]
    rows = [
        (
            branch.name,
            branch.commit.hex()[:10],
            plural(len(shown.files), "file"),
            plural(shown.tensors, "tensor"),
            size(shown.raw_bytes),
        )
        for branch, shown in held
    ]
    session.answer({"branches": listed}, tables.aligned(rows, "llrrr"))
