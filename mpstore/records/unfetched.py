"""What is said of tensors that were never fetched, so that following it brings them.

Relies on refs and errors. Promises: the branch is named where one has just this manifest; a pull of
the address that it came from would go to another branch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

from mpstore.errors import UNREADABLE, NotFoundError
from mpstore.ids import ObjectId
from mpstore.records.model import Commit, Manifest
from mpstore.records.refs import Refs

ANY_BRANCH: Final = "`mp pull` of the branch that it is on (mp pull hub/ORG/NAME) brings what lacks"


class Commits(Protocol):
    """A repository, as far as is asked here."""

    refs: Refs

    def commit(self, commit_id: ObjectId) -> Commit: ...

    def manifest(self, manifest_id: ObjectId) -> Manifest: ...


def never_fetched(repo: Commits, manifest: Manifest, keys: Sequence[str], path: str = "") -> NotFoundError:
    """The error where these tensors (of the file `path`) are needed."""
    others = len(keys) - 1
    more = f" and {others} other{'s' if others > 1 else ''}" if others else ""
    verb = "were" if others else "was"
    where = f"{path}: " if path else ""
    return NotFoundError(
        f"{where}tensor {keys[0]!r}{more} {verb} never fetched", hint=how_to_fetch(repo, manifest)
    )


def how_to_fetch(repo: Commits, manifest: Manifest) -> str:
    """What brings the tensors that a manifest lacks."""
    branch = _branch_of(repo, manifest)
    return ANY_BRANCH if branch is None else f"mp pull {branch} brings what lacks"


def _branch_of(repo: Commits, manifest: Manifest) -> str | None:
    """A branch that is at a commit with this manifest, those that merges fetch to first."""
    for name in sorted(repo.refs.names("heads/"), key=lambda name: not name.startswith("heads/hub/")):
        with contextlib.suppress(*UNREADABLE):
            ref = repo.refs.read(name)
            if ref is not None and repo.manifest(repo.commit(ref.value).manifest) == manifest:
                return name.removeprefix("heads/")
    return None
