"""Statistics of pairs, in a few figures.

Relies on analyze, overlap, ingest and revisions. Promises: nothing is computed that is known already, unless
asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpstore import analyze as room
from mpstore import overlap, revisions
from mpstore.api import names
from mpstore.errors import DamagedError, MpError, UsageError
from mpstore.events import Progress
from mpstore.ids import ObjectId
from mpstore.ingest import PERHAPS_SHARED
from mpstore.records.model import Commit
from mpstore.repository import Repo


@dataclass(frozen=True)
class Analyzed:
    """What is known of a (base, expert) pair. `computed`: it was not known before.

    relative_l2: |expert - base| / |base| over the finite elements of the float tensors that both have.
    """

    base: ObjectId
    expert: ObjectId
    computed: bool
    tensors: int
    blocks: int
    equal_blocks: int
    relative_l2: float
    nonfinite: int
    seconds: float


@dataclass(frozen=True)
class Overlaps:
    """Experts that were compared: how many pairs they make, and how many of these were not known before."""

    experts: tuple[str, ...]
    pairs: int
    computed: int
    seconds: float


def analyze(
    repo: Repo, expert: str, base: str | None, force: bool, threads: int | None, progress: Progress
) -> Analyzed:
    """Compute and keep the statistics of an expert against a base (None: the one it was added with)."""
    began = time.monotonic()
    expert_id = revisions.resolve(repo, expert)
    base_id = _base_of(repo, expert, expert_id) if base is None else revisions.resolve(repo, base)
    manifests = repo.commit(base_id).manifest, repo.commit(expert_id).manifest
    known = not force and repo.statistics(*manifests) is not None
    found = room.analyze(repo, base_id, expert_id, force=force, progress=progress, threads=threads)
    base_sq, delta_sq = float(found.base_sq.sum()), float(found.delta_sq.sum())
    return Analyzed(
        base=base_id,
        expert=expert_id,
        computed=not known,
        tensors=len(found.keys),
        blocks=len(found.equal),
        equal_blocks=int(np.count_nonzero(found.equal)),
        relative_l2=math.sqrt(delta_sq / base_sq) if base_sq else math.inf if delta_sq else 0.0,
        nonfinite=int(found.nonfinite.sum()),
        seconds=round(time.monotonic() - began, 3),
    )


def overlaps(
    repo: Repo, experts: Sequence[str], force: bool, threads: int | None, progress: Progress
) -> Overlaps:
    """Know how every two of these experts lie to each other."""
    began = time.monotonic()
    commits = [revisions.resolve(repo, one) for one in experts]
    measured = overlap.measure(repo, commits, force=force, progress=progress, threads=threads)
    return Overlaps(
        tuple(experts), math.comb(len(set(commits)), 2), measured, round(time.monotonic() - began, 3)
    )


def compare_with_siblings(
    repo: Repo, commits: Sequence[ObjectId], progress: Progress, threads: int | None
) -> None:
    """Compare checkpoints that have just come, in this order, with the others of their base that were there
    before them, where that takes no time. What goes wrong is a warning: the checkpoints are there."""
    try:
        found = {}
        for place, commit in enumerate(commits):
            if overlap.is_small(repo, commit):
                later = set(commits[place + 1 :])
                found[commit] = [one for one in _siblings(repo, commit) if one not in later]
        overlap.along(repo, found, threads=threads)
    except MpError as error:
        shared = f"; {PERHAPS_SHARED}" if isinstance(error, DamagedError) else ""
        progress.warn(f"not compared with the other experts of its base: {error.message}{shared}")


def _siblings(repo: Repo, commit: ObjectId) -> list[ObjectId]:
    """The other branches' commits with the same base, the latest first."""
    base = _base(repo, repo.commit(commit))
    if base is None:
        return []
    branches = [one for one in names.listed(repo, "heads") if one.commit != commit]
    alike = [one for one in branches if _base(repo, repo.commit(one.commit)) == base]
    return [one.commit for one in sorted(alike, key=lambda one: (-one.time_ns, one.name))]


def _base(repo: Repo, commit: Commit) -> ObjectId | None:
    """The manifest of the base that a commit was added with."""
    if commit.how.get("verb") == "merge":
        return None
    found = [parent.commit for parent in commit.parents if parent.role == "base"]
    return repo.commit(found[0]).manifest if found else None


def _base_of(repo: Repo, name: str, commit_id: ObjectId) -> ObjectId:
    for parent in repo.commit(commit_id).parents:
        if parent.role == "base":
            return parent.commit
    raise UsageError(f"{name} was added without a base", hint=f"mp analyze {name} --base REV")
