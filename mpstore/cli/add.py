"""`mp add`: store a checkpoint and commit it on a branch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mpstore.cli import quantities
from mpstore.cli.options import message_option, threads_option, verb
from mpstore.cli.session import Session
from mpstore.errors import UsageError

if TYPE_CHECKING:
    from mpstore.api import AddResult, CommitKind

_MOST_NAME_BYTES: Final = 200  # of a part of a branch's name


@verb(
    "add",
    """
  mp add ./base --branch base
  mp add ./math --branch math --base base -m "fine-tuned on GSM8K"
  mp add ./base ./math ./code --base base
  mp add adapter.safetensors --branch tuned --kind delta --base base
""",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--branch",
    "branches",
    multiple=True,
    metavar="NAME",
    help="The branch that gets the commit, one for each PATH (default: called as PATH is).",
)
@click.option(
    "--base",
    metavar="REV",
    help="The model it was fine-tuned from, perhaps one of the PATHs' branches (default: found by sampling).",
)
@click.option(
    "--kind", type=click.Choice(["full", "delta", "lora"]), help="What the tensors are (default: found out)."
)
@message_option("What it is.")
@threads_option
def command(
    session: Session,
    paths: tuple[str, ...],
    branches: tuple[str, ...],
    base: str | None,
    kind: CommitKind | None,
    message: str,
    threads: int | None,
) -> None:
    """Store the checkpoint PATH (a directory, or one .safetensors file) and commit it on a branch.

    Blocks that the store has are not stored again, and the rest is encoded against the base where that is
    smaller. With a base, the statistics that plans are made from are computed on the way.

    Several PATHs are faster than one by one. The one whose branch --base names comes first (without --base,
    the first PATH), so that the others can be encoded against it. --kind and -m are said of all, --kind not
    of that base.
    """
    repository = session.repository()
    checkpoints = _named([session.path(path) for path in paths], branches)
    kept = f"{checkpoints[0][1]} is" if len(checkpoints) == 1 else "a branch that got no commit is"
    session.kept = f"{kept} where it was; blocks already stored are found again by the next try"
    started = time.monotonic()
    results = repository.add_all(
        checkpoints,
        base=base,
        kind=kind,
        message=message,
        author=session.author(repository),
        threads=threads,
    )
    documents = [result.as_json() for result in results]
    lines = [line for result in results for line in _lines(result)]
    seconds = round(time.monotonic() - started, 3)
    session.report(documents[0] if len(documents) == 1 else _together(documents, seconds), lines)


def _named(paths: Sequence[Path], branches: Sequence[str]) -> list[tuple[Path, str]]:
    """Each path with its branch."""
    if branches and len(branches) != len(paths):
        raise UsageError(
            f"--branch is given {quantities.plural(len(branches), 'time')} for "
            f"{quantities.plural(len(paths), 'PATH')}",
            hint="give it once for each PATH, in their order, or not at all: then each is called as its PATH",
        )
    return list(zip(paths, branches or map(_branch_of, paths), strict=True))


def _branch_of(path: Path) -> str:
    """What a checkpoint's branch is called if nobody says."""
    name = Path(os.path.abspath(path)).name.removesuffix(".safetensors")
    name = re.sub(r"[^\w.+-]+|\.{2,}", "-", name).strip("-.")
    name = name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore").rstrip("-.")
    return re.sub(r"\.lock$", "-lock", name) or "model"


def _together(documents: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """What `--json` says of several."""
    sums = {key: sum(one[key] for one in documents) for key in ("raw_bytes", "stored_bytes")}
    return {"added": documents, **sums, "seconds": seconds}


def _lines(result: AddResult) -> list[str]:
    added = result.as_json()
    if not result.committed.created:
        return [
            f"{result.branch} has this very checkpoint already ({added['commit'][:10]}); nothing to commit"
        ]
    against = f", against {added['base']}" if added["base"] else ""
    return [
        f"{result.branch}: {added['commit'][:10]}  {quantities.plural(added['tensors'], 'tensor')}, "
        f"{quantities.plural(added['blocks'], 'block')}, {added['new_blocks']:,} new{against}",
        f"  {quantities.size(added['raw_bytes'])} took {quantities.size(added['stored_bytes'])} of disk "
        f"({quantities.share(added['stored_bytes'], added['raw_bytes'])}) in "
        f"{quantities.seconds(added['seconds'])}",
    ]
