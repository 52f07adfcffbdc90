"""How the deltas of two experts lie to each other, where somebody has measured the pair.

Relies on repository and statistics. Promises: records alone are read. Known distances hold |x_j - x_i|^2 =
|delta_j - delta_i|^2 (`mp analyze --pairs`, and `mp add` of small checkpoints), and with it the inner
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
from mpstore.statistics import Distances


def overlaps(
    repo: Repo, base: BaseModel, experts: Sequence[Expert]
) -> tuple[dict[tuple[int, int], Floats], tuple[int, ...]]:
    """(i, j), i < j -> <delta_i, delta_j> per block (N,), NaN where the pair or either is unmeasured; and the
    experts that could be compared with another and were not."""
    full = [i for i, one in enumerate(experts) if one.columns.kind == "full"]
    known = {one: repo.distances(one) for one in {experts[i].columns.manifest for i in full}}
    found, lacking = {}, set()
    for i, j in combinations(full, 2):
        first, second = experts[i].columns, experts[j].columns
        there = experts[i].finite & experts[j].finite
        apart = _apart(base, known, first.manifest, second.manifest)
        if apart is None:
            if (first.candidate & second.candidate & there).any():
                lacking |= {i, j}
            continue
        sizes = [np.where(one.candidate, one.delta_sq, 0.0) for one in (first, second)]
        found[i, j] = np.where(there, (sizes[0] + sizes[1] - apart) / 2.0, np.nan)
    return found, tuple(sorted(lacking))


def _apart(
    base: BaseModel, known: dict[ObjectId, Distances | None], first: ObjectId, second: ObjectId
) -> Floats | None:
    """|x_j - x_i|^2 per block, NaN where it was not measured; None: not at all."""
    if first == second:
        return np.zeros(base.grid.blocks)
    for one, other in ((known[first], second), (known[second], first)):
        column = None if one is None else one.to(other)
        if one is not None and column is not None:
            return _on_grid(base, one, column)
    return None


def _on_grid(base: BaseModel, known: Distances, column: Floats) -> Floats:
    """A column of distances on the base's block axis."""
    if known.keys == base.grid.keys and np.array_equal(known.offsets, base.grid.offsets):
        return column
    apart = np.full(base.grid.blocks, np.nan)
    for t, key in enumerate(base.grid.keys):
        rows, measured = base.span(t), known.rows(key)
        if measured.stop - measured.start == rows.stop - rows.start:
            apart[rows] = column[measured]
    return apart
