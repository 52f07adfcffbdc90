"""Checkpoints into a repository: which one comes first, the hooks around, how experts of one base lie.

Relies on ingest, hooks and measuring. Promises: everything that names and headers can show is checked before
anything is stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mpstore import ingest, revisions
from mpstore.api import measuring
from mpstore.checkpoint_dir import scan
from mpstore.errors import UsageError
from mpstore.events import Progress
from mpstore.ingest import AddResult, FoundBase, Source
from mpstore.records.model import CommitKind
from mpstore.repository import Repo

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
    for branch in branches:
        repo.refs.check_name(f"heads/{branch}")
        if branches.count(branch) > 1:
            raise UsageError(
                f"two checkpoints for the branch {branch}", hint="a branch is one model's history"
            )
    ahead = _ahead(branches, said.base)
    if said.base is not None and not ahead:
        revisions.resolve(repo, said.base)
    for path, branch in checkpoints:
        hooks.before({"path": str(path), "branch": branch, "base": said.base, "message": said.message})
    if len(checkpoints) > 1:
        for path, _ in checkpoints:
            scan(path)
    groups = [[one for one in checkpoints if (one[1] in ahead) == first] for first in (True, False)]
    added: dict[str, AddResult] = {}
    for first, group in zip((True, False), groups, strict=True):
        base = None if first else said.base
        for result in _add(repo, group, base, said, progress, threads) if group else ():
            if result.committed.created:
                measuring.compare_with_siblings(repo, result.commit, progress, threads)
                hooks.after(result.as_json())
            added[result.branch] = result
    return [added[branch] for branch in branches]


def _ahead(branches: Sequence[str], base: str | None) -> Sequence[str]:
    """The branch whose checkpoint the others are to lean on, if it is one of several."""
    if len(branches) < 2:
        return ()
    return branches[:1] if base is None else [branch for branch in branches if branch == base]


def _add(
    repo: Repo,
    checkpoints: Sequence[Named],
    base: str | None,
    said: Said,
    progress: Progress,
    threads: int | None,
) -> list[AddResult]:
    found = None if base is None else FoundBase(base, revisions.resolve(repo, base))
    sources = [
        Source(path, branch, said.message or f"add {Path(path).resolve().name}")
        for path, branch in checkpoints
    ]
    return ingest.add_all(
        repo, sources, ingest.Said(found, said.kind, said.author), progress=progress, threads=threads
    )
