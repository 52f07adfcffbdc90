"""`mp analyze`: compute the statistics that plans are made from."""

from __future__ import annotations

from typing import Any

import click

from mpstore.cli.options import threads_option, verb
from mpstore.cli.quantities import figure, plural, seconds
from mpstore.cli.session import Session


@verb(
    "analyze",
    """
  mp analyze                       every branch that was added with a base
  mp analyze math code --base base
  mp analyze math code law --pairs             tight bounds for merges of these
""",
)
@click.argument("experts", nargs=-1, metavar="[REV]…")
@click.option("--base", metavar="REV", help="The base (default: the one each was added with).")
@click.option("--pairs", is_flag=True, help="Also compare the experts REV with each other.")
@click.option("--force", is_flag=True, help="Compute again what is known.")
@threads_option
def command(
    session: Session,
    experts: tuple[str, ...],
    base: str | None,
    pairs: bool,
    force: bool,
    threads: int | None,
) -> None:
    """Compute and keep what a plan needs to know of every block of the experts REV, against a base.

    mp add does it on the way; this is for pairs that came in without each other. With --pairs the experts
    are also compared with each other, which small ones are when they are added: the bounds of their merges
    become tight.
    """
    repository = session.repository()
    session.kept = "pairs that were finished are kept"
    names = experts or tuple(repository.based_branches())
    done = [(name, repository.analyze(name, base=base, force=force, threads=threads)) for name in names]
    value: dict[str, Any] = {"pairs": [{"revision": name, **vars(one)} for name, one in done]}
    lines = [
        f"{name}: {plural(one.blocks, 'block')}, {one.equal_blocks:,} equal to the base's, "
        f"|Δ|/|base| {figure(one.relative_l2)}, "
        + (seconds(one.seconds) if one.computed else "known already")
        + (f", {one.nonfinite:,} values not finite" if one.nonfinite else "")
        for name, one in done
    ]
    if pairs and len(names) > 1:
        found = repository.compare(names, force=force, threads=threads)
        value["compared"] = vars(found)
        took = seconds(found.seconds) if found.computed else "known already"
        lines.append(f"{', '.join(names)}: {plural(found.pairs, 'pair')} compared, {took}")
    session.report(value, lines or ["no branch was added with a base; name some, and --base"])
