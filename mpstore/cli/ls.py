"""`mp ls`: the files and tensors of a revision."""

from __future__ import annotations

import click

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import size
from mpstore.cli.session import Session


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
        _branches(session, repository.branches())
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


def _branches(session: Session, branches: tuple[object, ...]) -> None:
    raise NotImplementedError
