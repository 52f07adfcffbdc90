"""What reading the experts' blocks costs: every frame, and the delta bases beside the merge's own.

Relies on repository and gather_base. Promises: index columns are read, no block; all experts' blocks are
looked up at once and in the order of the index, which takes a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpstore.merge.gather_base import Ids, foreign_bases, located, words
from mpstore.merge.plan_inputs import Integers
from mpstore.repository import Repo


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
    ids = np.concatenate([np.zeros((0, 32), np.uint8), *(one for one, _ in wanted)])
    places_in_own = np.concatenate([np.zeros(0, np.int64), *(at for _, at in wanted)])
    order = np.argsort(words(ids)[:, 0].astype(">u8").view(np.uint64))  # as ids are ordered: by their bytes
    places = located(repo, ids[order])
    frame_bytes = np.empty(len(ids), np.int64)
    frame_bytes[order] = places.frame_bytes
    leans, foreign = foreign_bases(places, words(own)[places_in_own[order]])
    rows = order[leans]
    by_row = np.argsort(rows)
    rows, foreign = rows[by_row], foreign[by_row]
    foreign_bytes = located(repo, foreign).frame_bytes.astype(np.int64)
    return _split(wanted, frame_bytes, rows, foreign, foreign_bytes)


def _split(
    wanted: Sequence[tuple[Ids, Integers]],
    frame_bytes: Integers,
    rows: Integers,
    ids: Ids,
    foreign_bytes: Integers,
) -> list[Costs]:
    found, begin = [], 0
    for one, _ in wanted:
        end = begin + len(one)
        low, high = np.searchsorted(rows, [begin, end])
        found.append(
            Costs(frame_bytes[begin:end], rows[low:high] - begin, ids[low:high], foreign_bytes[low:high])
        )
        begin = end
    return found
