"""Statistics of pairs, in a few figures.

Relies on analyze, revisions and history. Promises: nothing is computed that is known already, unless asked.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from mpstore import analyze as room
from mpstore import revisions
from mpstore.errors import UsageError
from mpstore.events import Progress
from mpstore.ids import ObjectId
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


def _base_of(repo: Repo, name: str, commit_id: ObjectId) -> ObjectId:
    for parent in repo.commit(commit_id).parents:
        if parent.role == "base":
            return parent.commit
    raise UsageError(f"{name} was added without a base", hint=f"mp analyze {name} --base REV")
