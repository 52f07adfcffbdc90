"""Which commit a user's words mean: branch, tag, id prefix, and steps from there.

Relies on repository. Promises: an answer is one commit; several that fit are AmbiguousError listing them,
none is NotFoundError with the nearest known names.
"""

from __future__ import annotations

import re
from typing import Final

from mpstore.errors import AmbiguousError, DamagedError, NotFoundError, UsageError
from mpstore.ids import ID_BYTES, ObjectId, short
from mpstore.records.model import Commit
from mpstore.records.refs import LogEntry
from mpstore.repository import Repo
from mpstore.suggestions import nearest

MIN_PREFIX_DIGITS: Final = 4
_GRAMMAR: Final = re.compile(
    r"(?P<name>[^~^]+?)(?:@\{(?P<back>\d{1,9})\})?(?P<steps>(?:~\d{0,9}|\^[a-z]*\d{0,9})*)"
)
_STEP: Final = re.compile(r"(~|\^)([a-z]*)(\d*)")
_HEX: Final = re.compile(r"[0-9a-fA-F]{4,64}")
_SHOWN: Final = 10


def resolve(repo: Repo, revision: str) -> ObjectId:
    """The commit that `revision` means.

    NAME is a branch, a tag (`heads/NAME`, `tags/NAME` where both exist) or at least four digits of a commit's
    id. NAME@{n}: what it was n moves ago. ~n: n times the previous commit; ^: the previous, ^base: the
    merge's base, ^expert2: its second expert (^expert: its first).
    """
    if not isinstance(revision, str):  # from Python anything may come, by whatever argument
        raise UsageError(f"revision = {revision!r:.200}: the name of a branch, tag or commit is expected")
    match = _GRAMMAR.fullmatch(revision)
    if match is None:
        raise NotFoundError(
            f"no revision {revision!r:.200}",
            hint="REV is a branch, a tag or an id; then @{n}, ~n, ^base, ^expert1",
        )
    name, back = match["name"], match["back"]
    commit_id = _start(repo, name) if back is None else _moves_ago(repo, name, int(back))
    for mark, role, digits in _STEP.findall(match["steps"]):
        if mark == "~":
            for _ in range(int(digits or 1)):
                commit_id = _parent(repo, commit_id, "previous", 1, revision)
        else:
            commit_id = _parent(repo, commit_id, role or "previous", int(digits or 1), revision)
    return commit_id


def full_name(repo: Repo, name: str) -> str | None:
    """The ref that a short name means ("heads/…" or "tags/…"); None: none. AmbiguousError: a branch and a tag
    that differ."""
    if name.startswith(("heads/", "tags/")) and _value(repo, name) is not None:
        return name
    found = [full for full in (f"heads/{name}", f"tags/{name}") if _value(repo, full) is not None]
    if len(found) == 2 and _value(repo, found[0]) != _value(repo, found[1]):
        raise AmbiguousError(f"{name!r} is a branch and a tag", hint=f"say {found[0]} or {found[1]}")
    return found[0] if found else None


def short_name(repo: Repo, full: str) -> str:
    """The shortest name that means the ref `full`: without its "heads/", unless a tag has that name, too."""
    short = full.partition("/")[2]
    try:
        return short if full_name(repo, short) == full else full
    except AmbiguousError:
        return full


def _value(repo: Repo, full: str) -> ObjectId | None:
    try:
        ref = repo.refs.read(full)
    except UsageError:  # no ref can have this name
        return None
    return None if ref is None else ref.value


def _start(repo: Repo, name: str) -> ObjectId:
    full = full_name(repo, name)
    value = None if full is None else _value(repo, full)
    if value is not None:
        return value
    if _HEX.fullmatch(name):
        return _by_prefix(repo, name)
    raise _unknown(repo, name)


def _by_prefix(repo: Repo, prefix: str) -> ObjectId:
    found = repo.objects.with_prefix(prefix, Commit.KIND)
    if not found and repo.objects.refresh():
        found = repo.objects.with_prefix(prefix, Commit.KIND)
    if len(found) == 1:
        return found[0]
    if found:
        listed = "\n".join(f"  {short(one)}  {_first_line(repo, one)}" for one in found[:_SHOWN])
        more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise AmbiguousError(f"{prefix} fits {len(found)} commits:\n{listed}{more}", hint="give more digits")
    others = repo.objects.with_prefix(prefix)
    if others:
        raise NotFoundError(f"{prefix} is an object, but no commit", hint=nearest(prefix, _names(repo)))
    raise _unknown(repo, prefix)


def _first_line(repo: Repo, commit_id: ObjectId) -> str:
    try:
        return repo.commit(commit_id).message.partition("\n")[0]
    except DamagedError:
        return "(damaged)"


def _moves_ago(repo: Repo, name: str, back: int) -> ObjectId:
    entries = _log_of(repo, name)
    if back >= len(entries):
        raise NotFoundError(f"{name!r} has moved only {_times(len(entries))} (as far as its log goes)")
    value = entries[back].new
    if value is None:
        raise NotFoundError(
            f"{name}@{{{back}}}: {name!r} had been deleted", hint=f"{name}@{{{back + 1}}} is before"
        )
    return value


def _log_of(repo: Repo, name: str) -> list[LogEntry]:
    """The log of a branch or tag, deleted ones too."""
    full = full_name(repo, name)
    tries = (
        [full]
        if full
        else [name]
        if name.startswith(("heads/", "tags/"))
        else [f"heads/{name}", f"tags/{name}"]
    )
    for one in tries:
        try:
            entries = repo.refs.log(one)
        except UsageError:
            continue
        if entries:
            return entries
    raise _unknown(repo, name)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _parent(repo: Repo, commit_id: ObjectId, role: str, number: int, revision: str) -> ObjectId:
    commits = [parent.commit for parent in repo.commit(commit_id).parents if parent.role == role]
    if not 1 <= number <= len(commits):
        has = f"it has {len(commits)}" if len(commits) > 1 else "it has one" if commits else "it has none"
        why = "it is the first of its branch" if role == "previous" and not commits else f"{has} of that role"
        which = f"{role} {number}" if number > 1 else role
        raise NotFoundError(f"{revision!r}: commit {short(commit_id)} has no {which} parent ({why})")
    return commits[number - 1]


def _names(repo: Repo) -> list[str]:
    return [name.partition("/")[2] for kind in ("heads/", "tags/") for name in repo.refs.names(kind)]


def _unknown(repo: Repo, name: str) -> NotFoundError:
    known = _names(repo)
    listed = f"known: {', '.join(known[:_SHOWN])}" if known else "there is no commit yet"
    return NotFoundError(f"no branch, tag or commit {name!r:.200}", hint=nearest(name, known) or listed)


__all__ = ["ID_BYTES", "MIN_PREFIX_DIGITS", "full_name", "resolve"]
