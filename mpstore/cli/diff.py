"""`mp diff`: compare two revisions or directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.quantities import figure, plural, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import Diff, FileDiff, TensorDiff, TensorShape

_BAR = 40
_NAMED = 3


@verb(
    "diff",
    """
  mp diff base merged              every tensor that differs, and by how much
  mp diff base merged --stat       blocks changed, as a bar
  mp diff merged ./out             a revision against a directory
  mp diff base math --tensor '*mlp*' --exit-code
""",
)
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--stat", is_flag=True, help="Changed blocks of each tensor, as a bar.")
@click.option("--tensor", "patterns", multiple=True, metavar="GLOB", help="Only these tensors. Repeat.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@click.pass_context
def command(
    context: click.Context,
    session: Session,
    old: str,
    new: str,
    stat: bool,
    patterns: tuple[str, ...],
    exit_code: bool,
) -> None:
    """Compare A with B, each a revision or a directory, tensor by tensor and file by file.

    For each tensor: blocks changed, |B - A| / |A| in the l2 norm, the largest |B - A|, the cosine of A and B.
    """
    found = session.repository().diff(_side(session, old), _side(session, new), tensors=patterns)
    session.answer(_document(found), _stat(found) if stat else _table(found))
    if exit_code and not found.empty:
        context.exit(1)


def _side(session: Session, name: str) -> str | Path:
    """What is a path on the face of it is one, from where `-C` points."""
    if name.startswith((".", "/", "~")) or name.endswith("/"):
        return session.path(name)
    return name


def _document(found: Diff) -> dict[str, Any]:
    return {
        "tensors": [
            {
                "tensor": one.key,
                "state": one.state,
                "old": _shape(one.old),
                "new": _shape(one.new),
                "blocks": one.blocks,
                "changed_blocks": one.changed_blocks,
                "relative_l2": one.figures and one.figures.relative_l2,
                "max_abs": one.figures and one.figures.max_abs,
                "cosine": one.figures and one.figures.cosine,
                "nonfinite": one.figures and one.figures.nonfinite,
            }
            for one in found.tensors
        ],
        "files": [
            {"path": one.path, "state": one.state, "old_bytes": one.old_bytes, "new_bytes": one.new_bytes}
            for one in found.files
        ],
        "changed_tensors": len(found.tensors),
        "equal_tensors": found.equal_tensors,
        "lacking_tensors": list(found.lacking),
    }


def _shape(shape: TensorShape | None) -> dict[str, Any] | None:
    return None if shape is None else {"dtype": shape.dtype, "shape": list(shape.shape)}


def _table(found: Diff) -> Iterator[str]:
    rows = [
        (_mark(one), one.key, f"{one.changed_blocks}/{one.blocks}", *_figures(one)) for one in found.tensors
    ]
    yield from tables.aligned(rows, "llrrrr", ("", "TENSOR", "BLOCKS", "REL L2", "MAX", "COSINE"))
    yield from (_file(one) for one in found.files)
    yield from _summary(found)


def _figures(one: TensorDiff) -> tuple[str, str, str]:
    if one.figures is not None:
        cosine = one.figures.cosine
        return (
            figure(one.figures.relative_l2),
            figure(one.figures.max_abs),
            "" if cosine is None else f"{cosine:.6f}",
        )
    if one.state == "reshaped" and one.old and one.new:
        return f"{_text(one.old)} → {_text(one.new)}", "", ""
    return "", "", ""


def _text(shape: TensorShape) -> str:
    return f"{shape.dtype} {'×'.join(map(str, shape.shape)) or 'scalar'}"


def _mark(one: TensorDiff | FileDiff) -> str:
    return {"changed": "M", "added": "A", "removed": "D", "reshaped": "R"}[one.state]


def _file(one: FileDiff) -> str:
    sizes = " → ".join(size(count) for count in (one.old_bytes, one.new_bytes) if count is not None)
    return f"{_mark(one)}  {one.path}  {sizes}"


def _stat(found: Diff) -> Iterator[str]:
    most = max((one.changed_blocks for one in found.tensors), default=0)
    scale = min(1.0, _BAR / most) if most else 0.0
    name = max((len(one.key) for one in found.tensors), default=0)
    digits = len(str(most))
    for one in found.tensors:
        bar = "+" * max(1, round(one.changed_blocks * scale))
        rest = "-" * round((one.blocks - one.changed_blocks) * scale)
        note = {"added": " (added)", "removed": " (removed)", "reshaped": " (reshaped)"}.get(one.state, "")
        yield f" {one.key:<{name}} | {one.changed_blocks:>{digits}} {bar}{rest}{note}"
    yield from (f" {_file(one)}" for one in found.files)
    yield from _summary(found)


def _summary(found: Diff) -> Iterator[str]:
    if found.lacking:
        named = ", ".join(found.lacking[:_NAMED]) + (", …" if len(found.lacking) > _NAMED else "")
        yield (
            f" {plural(len(found.lacking), 'tensor')} not compared ({named}): never fetched from the Hub; "
            "mp pull of the branch (hub/ORG/NAME) brings them"
        )
    if found.empty:
        yield "no differences in what is here" if found.lacking else "no differences"
        return
    blocks = sum(one.changed_blocks for one in found.tensors)
    files = f", {plural(len(found.files), 'file')}" if found.files else ""
    yield (
        f" {plural(len(found.tensors), 'tensor')} changed in {plural(blocks, 'block')}{files}, "
        f"{found.equal_tensors} equal"
    )
