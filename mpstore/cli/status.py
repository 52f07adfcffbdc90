"""`mp status`: compare a directory with a revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpstore.cli.options import verb
from mpstore.cli.quantities import plural
from mpstore.cli.session import Session

if TYPE_CHECKING:
    from mpstore.api import FileStatus


@verb(
    "status",
    """
  mp status ./out              against the branch that is nearest
  mp status ./out merged~1
""",
)
@click.argument("directory", metavar="DIR")
@click.argument("revision", required=False, metavar="[REV]")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything differs.")
@click.pass_context
def command(
    context: click.Context, session: Session, directory: str, revision: str | None, exit_code: bool
) -> None:
    """Show which files of DIR are those of REV, and which are changed, missing or new.

    Without REV: of the branch that has the most in common with DIR.
    """
    found = session.repository().status(session.path(directory), revision)
    value = {
        "revision": found.revision,
        "commit": found.commit,
        "clean": found.clean,
        "files": [vars(file) for file in found.files],
    }
    lines = [f"{directory} against {found.revision} ({found.commit.hex()[:10]})"]
    lines += [_line(file) for file in found.files if file.state != "equal"]
    equal = sum(file.state == "equal" for file in found.files)
    lines.append(
        f"{plural(equal, 'file')} equal" if not found.clean else f"all {plural(equal, 'file')} equal"
    )
    session.answer(value, lines)
    if exit_code and not found.clean:
        context.exit(1)


def _line(file: FileStatus) -> str:
    tensors = f"  ({plural(file.changed_tensors, 'tensor')})" if file.changed_tensors else ""
    return f"  {file.state + ':':<9} {file.path}{tensors}"
