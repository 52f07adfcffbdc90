"""Branches, tags and their history.

Relies on refs and revisions. Promises: every move is a compare-and-swap on the value that was read; a tag
never moves; names are checked before anything is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpstore import revisions
from mpstore.errors import ConflictError, NotFoundError
from mpstore.ids import ObjectId, short
from mpstore.records.reflog import LogEntry
from mpstore.repository import Repo

if TYPE_CHECKING:
    from mpstore.api.values import NamedCommit

KINDS = {"heads": "branch", "tags": "tag"}


def listed(repo: Repo, kind: str) -> tuple[NamedCommit, ...]:
    """Every branch ("heads") or tag ("tags"), sorted by name."""
    from mpstore.api.values import NamedCommit

    found = []
    for full in repo.refs.names(f"{kind}/"):
        ref = repo.refs.read(full)
        if ref is not None:
            commit = repo.commit(ref.value)
            found.append(NamedCommit(full.partition("/")[2], ref.value, commit.message, commit.time_ns))
    return tuple(found)


def based(repo: Repo) -> tuple[str, ...]:
    """Branches whose commit holds whole or delta weights made from a base."""
    found = []
    for branch in listed(repo, "heads"):
        commit = repo.commit(branch.commit)
        added = commit.how.get("verb") != "merge" and commit.kind != "lora"
        if added and any(parent.role == "base" for parent in commit.parents):
            found.append(revisions.short_name(repo, f"heads/{branch.name}"))
    return tuple(found)


def create(repo: Repo, kind: str, name: str, revision: str, who: str, *, force: bool = False) -> ObjectId:
    """Point `name` at a revision. ConflictError when it exists and `force` is off."""
    from mpstore import reachability

    full = f"{kind}/{name}"
    repo.refs.check_name(full)
    commit = revisions.resolve(repo, revision)
    existing = repo.refs.read(full)
    old = None if existing is None else existing.value
    if old == commit and repo.refs.is_certain(full):
        return commit
    if old is not None and not force:
        hint = (
            f"mp branch -f {name} {revision} moves it"
            if kind == "heads"
            else "a tag never moves; delete it first"
        )
        raise ConflictError(f"{KINDS[kind]} {name} exists already, at {short(old)}", hint=hint)
    with reachability.hold(repo, commit):
        force = force and kind == "heads"  # tags do not move
        repo.refs.move(full, old, commit, f"{KINDS[kind]}: set to {revision}", who, force=force)
    return commit


def delete(repo: Repo, kind: str, name: str, who: str) -> ObjectId:
    """Delete a name; its history stays in the reflog. Returns where it was."""
    full = f"{kind}/{name}"
    repo.refs.check_name(full)
    ref = repo.refs.read(full)
    if ref is None:
        raise NotFoundError(f"there is no {KINDS[kind]} {name}", hint=f"mp {KINDS[kind]} lists them")
    force = kind == "tags"  # they do not move: one whose newest move cannot be read hides nothing newer
    repo.refs.move(full, ref.value, None, f"{KINDS[kind]}: deleted", who, force=force)
    return ref.value


def reflog(repo: Repo, name: str | None) -> tuple[LogEntry, ...]:
    """Entries of one branch or tag (deleted ones too), or of all, newest first."""
    names = [full for kind in KINDS for full in repo.refs.names(f"{kind}/", deleted=True)]
    if name is not None:
        names = [full for full in names if name in (full, full.partition("/")[2])]
        if not names:
            raise NotFoundError(f"there was never a branch or tag {name}", hint="mp reflog shows all of them")
    entries = [entry for full in names for entry in repo.refs.log(full)]
    return tuple(sorted(entries, key=lambda entry: (entry.time_ns, entry.seq), reverse=True))
