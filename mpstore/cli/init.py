"""`mp init`: create a repository."""

from __future__ import annotations

import os

import click

from mpstore.cli import process
from mpstore.cli.options import verb
from mpstore.cli.session import Session
from mpstore.codecs.formats import Level


@verb(
    "init",
    """
  mp init                          here
  mp init ./family --compression max
""",
)
@click.argument("directory", required=False, metavar="[DIR]")
@click.option(
    "--block-elements",
    type=click.IntRange(64),
    metavar="N",
    help="Elements of a block, a multiple of 64 (default: 131072, which is 256 KiB of bf16).",
)
@click.option(
    "--compression",
    type=click.Choice([level.value for level in Level]),
    default=Level.DEFAULT.value,
    show_default=True,
    help="What size may cost in speed.",
)
def command(session: Session, directory: str | None, block_elements: int | None, compression: str) -> None:
    """Create a repository: a directory .mp in DIR (default: here), with sample hooks."""
    process.prepare()
    from mpstore.api import Repository

    named = os.environ.get("MP_DIR") if not session.moved else None
    target = session.path(directory or named or ".")
    if directory is None and target.name == ".mp":  # MP_DIR may name the directory or the .mp in it
        target = target.parent
    repository = Repository.init(target, block_elements=block_elements, compression=compression)
    value = {
        "repository": repository.mp_dir,
        "block_elements": repository.config.block_elements,
        "compression": compression,
    }
    session.report(value, [f"created an empty repository in {repository.mp_dir}"])
