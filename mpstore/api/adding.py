"""Checkpoints into a repository: which one comes first, the hooks around, how experts of one base lie.

Relies on ingest, hooks and measuring. Promises: everything that names and headers can show is checked before
anything is stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mpstore import ingest, revisions
from mpstore.api import measuring
from mpstore.checkpoint_dir import as_text
from mpstore.errors import AmbiguousError, HookError, MpError, NotFoundError, UsageError
from mpstore.events import Progress
from mpstore.ingest import AddResult, FoundBase, Source
from mpstore.records.model import CommitKind
from mpstore.repository import Repo
from mpstore.suggestions import nearest

Named: TypeAlias = tuple[str | os.PathLike[str], str]


@dataclass(frozen=True)
class Said:
    """What is said of every checkpoint: see `Repository.add_all`."""

    base: str | None
    kind: CommitKind | None
    message: str
    author: str


@dataclass(frozen=True)
class Hooks:
    """What runs before a checkpoint is stored, and after it is committed."""

    before: Callable[[Mapping[str, Any]], None]
    after: Callable[[Mapping[str, Any]], None]


def add_all(
    repo: Repo,
    hooks: Hooks,
    checkpoints: Sequence[Named],
    said: Said,
    progress: Progress,
    threads: int | None,
) -> list[AddResult]:
    """The results in the order of the checkpoints. See `Repository.add_all`."""
    branches = [branch for _, branch in checkpoints]
    _check_branches(repo, checkpoints)
    ahead = _ahead(repo, branches, said.base)
    base = None if said.base is None or ahead else _resolved(repo, said.base, checkpoints)
    for path, branch in checkpoints:
        details = {"path": str(path), "branch": branch, "base": said.base, "message": said.message}
        _ask(hooks, details, len(checkpoints) > 1)
    if len(checkpoints) > 1:
        _look(checkpoints, ahead, said)
    added: dict[str, AddResult] = {}
    with _said_what_is_in() as is_in:
        for first in (True, False):
            group = [one for one in checkpoints if (one[1] == ahead) == first]
            if not group:
                continue
            own = ingest.Said(base, _kind(said, first), said.author)
            sources = [_source(path, branch, said.message) for path, branch in group]
            results = ingest.add_all(
                repo, sources, own, progress=progress, threads=threads, committed=is_in.append
            )
            added |= {result.branch: result for result in results}
            created = [result for result in results if result.committed.created]
            measuring.compare_with_siblings(repo, [one.commit for one in created], progress, threads)
            for result in created:
                hooks.after(result.as_json())
            if first and said.base is not None:
                base = FoundBase(said.base, added[group[0][1]].commit)
    return [added[branch] for branch in branches]


@contextmanager
def _said_what_is_in() -> Iterator[list[str]]:
    """Branches whose checkpoint is in are said with the error of a later one, since they stay."""
    is_in: list[str] = []
    try:
        yield is_in
    except MpError as error:
        if is_in:
            error.say(f"{error.message}; already added: {', '.join(is_in)}")
        raise


def _check_branches(repo: Repo, checkpoints: Sequence[Named]) -> None:
    """UsageError where one cannot be, or not beside the others."""
    taken: dict[str, str | os.PathLike[str]] = {}
    for path, branch in checkpoints:
        repo.refs.check_name(f"heads/{branch}")
        if branch in taken:
            raise UsageError(
                f"two checkpoints for the branch {branch}: {os.fspath(taken[branch])} and {os.fspath(path)}",
                hint="a branch is one model's history: name another for each",
            )
        taken[branch] = path
    for branch in taken:
        repo.refs.check_room(f"heads/{branch}")
        above = next((other for other in taken if branch.startswith(f"{other}/")), None)
        if above is not None:
            raise UsageError(
                f"branches {above!r} and {branch!r}: a name cannot be part of another's path",
                hint="call one of them something else",
            )


def _ahead(repo: Repo, branches: Sequence[str], base: str | None) -> str | None:
    """The branch whose checkpoint the others are to lean on, if it is one of several."""
    if len(branches) < 2:
        return None
    if base is None:
        return branches[0]
    branch = base.removeprefix("heads/")
    if branch not in branches:
        return None
    if revisions.full_name(repo, base) == f"tags/{base}":
        raise AmbiguousError(
            f"{base!r} is a tag, and the branch of a checkpoint that is added",
            hint=f"say heads/{base} or tags/{base}",
        )
    return branch


def _resolved(repo: Repo, base: str, checkpoints: Sequence[Named]) -> FoundBase:
    try:
        return FoundBase(base, revisions.resolve(repo, base))
    except NotFoundError as error:
        if os.path.exists(base):
            same = (branch for path, branch in checkpoints if os.path.abspath(path) == os.path.abspath(base))
            branch = next(same, None)
            error.hint = (
                "a base is a revision: add that directory first, or in the same call"
                if branch is None
                else f"a base is a revision: that directory's branch is called {branch}"
            )
        elif len(checkpoints) > 1:
            error.hint = nearest(base, [branch for _, branch in checkpoints]) or error.hint
        raise


def _ask(hooks: Hooks, details: Mapping[str, Any], named: bool) -> None:
    """Have the hook look at a checkpoint; `named`: an error says which one it is."""
    try:
        hooks.before(details)
    except HookError as error:
        if named:
            error.say(f"{details['path']}: {error.message}")
        raise


def _look(checkpoints: Sequence[Named], ahead: str | None, said: Said) -> None:
    """Raise what headers show, of every checkpoint."""
    found = {branch: ingest.look(path, _kind(said, branch == ahead)) for path, branch in checkpoints}
    if said.base is None or ahead is None:
        return
    shapes = ingest.shapes_of(found.pop(ahead))
    for one in found.values():
        ingest.check_common(one, shapes, said.base)


def _kind(said: Said, first: bool) -> CommitKind | None:
    """What is said of the kind is said of those that lean on a base, not of that base."""
    return None if first and said.base is not None else said.kind


def _source(path: str | os.PathLike[str], branch: str, message: str) -> Source:
    return Source(path, branch, message or f"add {as_text(Path(path).resolve().name)}")
