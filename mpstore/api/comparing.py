"""Comparisons: of revisions and directories with each other.

Relies on diff, checkpoint_dir and revisions. Promises: a name that is a revision is taken as one; what is a
path on the face of it ("./x", "/x", "x/") is taken as a directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from mpstore import checkpoint_dir, revisions
from mpstore.diff import Diff, Directory, Side, Stored, compare
from mpstore.errors import NotFoundError
from mpstore.events import Progress
from mpstore.repository import Repo
from mpstore.statistics import DeltaStatistics


def diff(repo: Repo, old: str | Path, new: str | Path, patterns: tuple[str, ...], progress: Progress) -> Diff:
    """What differs from `old` to `new`, each a revision or a directory."""
    sides = side(repo, old), side(repo, new)

    def statistics() -> DeltaStatistics | None:
        a, b = sides
        if isinstance(a, Stored) and isinstance(b, Stored):
            return repo.statistics(a.manifest_id, b.manifest_id)
        return None

    return compare(
        *sides,
        patterns=patterns,
        statistics=statistics,
        block_elements=repo.config.block_elements,
        progress=progress,
    )


def side(repo: Repo, name: str | Path) -> Side:
    """A revision of the store, or a directory. NotFoundError: neither."""
    path = Path(name)
    if isinstance(name, Path) or name.startswith((".", os.sep, "~/")) or name.endswith(os.sep):
        return Directory(checkpoint_dir.scan(path.expanduser()))
    try:
        manifest_id = repo.commit(revisions.resolve(repo, name)).manifest
    except NotFoundError as error:
        if path.exists():
            return Directory(checkpoint_dir.scan(path))
        hint = (
            f"{error.hint}; a directory is written ./{name}"
            if error.hint
            else f"a directory is written ./{name}"
        )
        raise NotFoundError(error.message, hint=hint) from None
    return Stored(repo, repo.manifest(manifest_id), manifest_id)
