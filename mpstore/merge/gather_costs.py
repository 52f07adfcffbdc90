"""What reading the experts' blocks costs: every frame, and the delta bases beside the merge's own.

Relies on repository and gather_base. Promises: index columns are read, no block; all experts' blocks are
looked up at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpstore.merge.gather_base import Ids, all_located, foreign_bases, rows_of
from mpstore.merge.plan_inputs import Integers
from mpstore.repository import Repo
from mpstore.store import Found


@dataclass(frozen=True)
class Costs:
    """Of some blocks (n,): frame_bytes; `foreign_rows` (m,), which of their frames lean on a foreign base;
    these bases' ids (m, 32) and frames' bytes (m,)."""

    frame_bytes: Integers
    foreign_rows: Integers
    foreign_ids: Ids
    foreign_bytes: Integers


def costs(repo: Repo, own: Ids, wanted: Sequence[tuple[Ids, Integers]]) -> list[Costs]:
    """For each expert, of its blocks `ids` (n, 32); where the same bytes of the base lie in `own`, (n,)."""
    places = all_located(repo, [ids for ids, _ in wanted])
    foreign = [
        foreign_bases(repo, one, rows_of(own, at)) for one, (_, at) in zip(places, wanted, strict=True)
    ]
    bases = all_located(repo, [ids for _, ids in foreign])
    return [
        Costs(own_bytes(one), leaning, ids, own_bytes(base))
        for one, (leaning, ids), base in zip(places, foreign, bases, strict=True)
    ]


def own_bytes(places: Found) -> Integers:
    """Bytes of each frame."""
    return places.column("frame_bytes").astype(np.int64)
