"""How the deltas of two experts lie to each other, where somebody has measured the pair.

Relies on repository and statistics. Promises: records alone are read. The statistics of one expert *against
another* (`mp analyze code --base math`) hold |x_j - x_i|^2 = |delta_j - delta_i|^2, and with it the inner
product (|delta_i|^2 + |delta_j|^2 - |delta_j - delta_i|^2) / 2: exact where sketches estimate, so that the
certificate need not take the two as parallel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mpstore.ids import ObjectId
from mpstore.merge.gather_base import BaseModel
from mpstore.merge.gather_expert import Expert
from mpstore.merge.plan_inputs import Floats
from mpstore.repository import Repo
from mpstore.statistics import DeltaStatistics


def overlaps(repo: Repo, base: BaseModel, experts: Sequence[Expert]) -> dict[tuple[int, int], Floats]:
    """(i, j), i < j -> <delta_i, delta_j> per block (N,), NaN where the pair or either is unmeasured."""
    found = {}
    for i, j in combinations(range(len(experts)), 2):
        first, second = experts[i].columns, experts[j].columns
        if (first.kind, second.kind) != ("full", "full"):
            continue
        apart = _apart(repo, base, first.manifest, second.manifest)
        if apart is None:
            continue
        sizes = [np.where(one.candidate, one.delta_sq, 0.0) for one in (first, second)]
        there = experts[i].finite & experts[j].finite
        found[i, j] = np.where(there, (sizes[0] + sizes[1] - apart) / 2.0, np.nan)
    return found


def _apart(repo: Repo, base: BaseModel, first: ObjectId, second: ObjectId) -> Floats | None:
    """|x_j - x_i|^2 per block, NaN where it was not measured; None: not at all."""
    if first == second:
        return np.zeros(base.grid.blocks)
    known = repo.statistics(first, second) or repo.statistics(second, first)
    if known is None or known.expert_kind != "full":
        return None
    apart = np.full(base.grid.blocks, np.nan)
    for t, key in enumerate(base.grid.keys):
        rows, measured = base.span(t), known.rows(key)
        if measured.stop - measured.start == rows.stop - rows.start:
            apart[rows] = _finite_delta_sq(known, measured)
    return apart


def _finite_delta_sq(known: DeltaStatistics, rows: slice) -> Floats:
    sizes: Floats = np.where(known.nonfinite[rows] == 0, known.delta_sq[rows], np.nan)
    return sizes
