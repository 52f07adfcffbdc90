"""The commits that lead somewhere, children before parents.

Relies on repository, revisions and names. Promises: every commit once; newest first where the order is free.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from mpstore import revisions
from mpstore.api import names
from mpstore.api.values import CommitInfo
from mpstore.ids import ObjectId
from mpstore.records.model import Commit
from mpstore.repository import Repo


def log(repo: Repo, revision: str | None, limit: int | None) -> tuple[CommitInfo, ...]:
    """The past of a revision, or of every branch and tag."""
    refs = names.by_commit(repo)
    starts = list(refs) if revision is None else [revisions.resolve(repo, revision)]
    ordered = _ordered(_reachable(repo, starts))[:limit]
    return tuple(CommitInfo(one, commit, refs.get(one, ())) for one, commit in ordered)


def _reachable(repo: Repo, starts: Iterable[ObjectId]) -> dict[ObjectId, Commit]:
    """Commits by id, read a generation at a time."""
    found: dict[ObjectId, Commit] = {}
    ahead = list(dict.fromkeys(starts))
    while ahead:
        found.update(repo.load_many(Commit, ahead))
        parents = (parent.commit for one in ahead for parent in found[one].parents)
        ahead = [one for one in dict.fromkeys(parents) if one not in found]
    return found


def _ordered(commits: dict[ObjectId, Commit]) -> list[tuple[ObjectId, Commit]]:
    """Children before parents, else newest first, else by id."""
    children = dict.fromkeys(commits, 0)
    for commit in commits.values():
        for one in {parent.commit for parent in commit.parents}:
            children[one] += 1
    ready = [(-commit.time_ns, one) for one, commit in commits.items() if not children[one]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, one = heapq.heappop(ready)
        ordered.append((one, commits[one]))
        for parent in {parent.commit for parent in commits[one].parents}:
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(ready, (-commits[parent].time_ns, parent))
    return ordered
