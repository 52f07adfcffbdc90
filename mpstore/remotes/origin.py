"""Where a commit came from, as its record tells it.

Relies on records. Promises: what `as_json` writes, `origin_of` reads; anything else is no origin.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpstore.records.model import Commit, Json
from mpstore.remotes.address import Address


@dataclass(frozen=True)
class Origin:
    """`revision` is what was asked for (None: the default branch), `commit` what it was then."""

    repo_id: str
    revision: str | None
    commit: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partial: bool = False

    @property
    def address(self) -> Address:
        return Address(self.repo_id, self.revision)

    def as_json(self) -> dict[str, Json]:
        found: dict[str, Json] = {"repo": self.repo_id, "revision": self.revision, "commit": self.commit}
        if self.include:
            found["include"] = list(self.include)
        if self.exclude:
            found["exclude"] = list(self.exclude)
        if self.partial:
            found["partial"] = True
        return found


def origin_of(commit: Commit) -> Origin | None:
    """The origin of a commit that was pulled, or None."""
    found = commit.how.get("origin")
    if not isinstance(found, dict) or not isinstance(found.get("repo"), str):
        return None
    revision, name = found.get("revision"), found.get("commit")
    return Origin(
        found["repo"],
        revision if isinstance(revision, str) else None,
        name if isinstance(name, str) else "",
        tuple(str(glob) for glob in found.get("include") or ()),
        tuple(str(glob) for glob in found.get("exclude") or ()),
        bool(found.get("partial")),
    )
