"""`mp hooks`: list the hooks and which of them are on."""

from __future__ import annotations

from mpstore.cli import tables
from mpstore.cli.options import verb
from mpstore.cli.session import Session


@verb("hooks")
def command(session: Session) -> None:
    """List the hooks: executables in .mp/hooks that run before and after commands.

    A hook gets one JSON document on its standard input. A pre- hook that exits non-zero stops the command
    with exit code 9. To switch a sample on, rename it: mv pre-merge.sample pre-merge
    """
    repository = session.repository()
    statuses = repository.hooks()
    value = {
        "directory": repository.mp_dir / "hooks",
        "hooks": [
            {"event": hook.event, "state": hook.state, "path": hook.path, "purpose": hook.purpose}
            for hook in statuses
        ],
    }
    rows = [(hook.event, hook.state, hook.purpose) for hook in statuses]
    session.answer(
        value,
        [*tables.aligned(rows, "lll", ("HOOK", "STATE", "RUNS")), "", f"in {repository.mp_dir / 'hooks'}"],
    )
