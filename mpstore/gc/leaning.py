"""Which base each delta is to lean on: as it is stored, and what a repack changes in that.

Relies on reachability's tables and records. Promises: plain columns over the rows of one table; deltas stay
one deep: a block that others lean on is never given a base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.gc.marking import Marked
from mpstore.ids import ObjectId
from mpstore.reachability import Marker
from mpstore.records.model import Commit, TensorRecord
from mpstore.repository import Repo
from mpstore.store import packindex

Rows: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Place: TypeAlias = tuple[str, str, tuple[int, ...], int]  # key, dtype, shape, elements of a block

_ROLES = ("base", "previous", "expert")  # of parents, the likeliest to resemble first


@dataclass
class Leaning:
    """base: int64[rows], the row each is to lean on, -1 none; changed: bool[rows], that is not as stored;
    released: bool[rows], bases that go; growth_bytes: what changed frames take more than before."""

    base: Rows
    changed: Flags
    released: Flags
    growth_bytes: int = 0
    figures: dict[str, int] = field(default_factory=dict)


def as_stored(marker: Marker) -> Leaning:
    """Nothing changed."""
    table = marker.table
    of_base = table.search(table.bases)
    base = np.full(table.rows, -1, np.int64)
    based = np.flatnonzero(table.base_row < len(table.bases))
    base[based] = of_base[table.base_row[based]]
    none = np.zeros(table.rows, np.bool_)
    return Leaning(base, none, none.copy())


def give_bases(repo: Repo, marked: Marked, leaning: Leaning) -> None:
    """Name a base for live blocks that have none: the block of the same place in a parent's tensor of the
    same name, dtype and shape (or the base that this one leans on), older commits first.

    Whether it is taken is decided when both are encoded: only where that is smaller. Not while a command runs
    that has pinned commits: it may count on what it located.
    """
    if marked.roots.pinned_commits:
        return
    marker = marked.marker
    pinned = [i for i, info in enumerate(marker.table.packs) if info.id in marked.roots.packs]
    free = marker.live & ~np.isin(marker.table.pack, pinned) & ~leaning.changed
    leant_on = np.zeros(marker.table.rows, np.bool_)
    leant_on[leaning.base[marker.live & (leaning.base >= 0)]] = True
    for rows, beside in _pairs(repo, marker):
        _give(marker, leaning, rows, beside, free, leant_on)


def _give(marker: Marker, leaning: Leaning, rows: Rows, beside: Rows, free: Flags, leant_on: Flags) -> None:
    """Give `rows` the bases `beside` (or those these lean on), where both sides may."""
    table = marker.table
    root = np.where(leaning.base[beside] >= 0, leaning.base[beside], beside)
    fits = free[rows] & (leaning.base[rows] < 0) & ~leant_on[rows] & (rows != root)
    fits &= marker.live[root] & (leaning.base[root] < 0) & ~np.isin(rows, root[fits])
    fits &= (table.raw_bytes[rows] == table.raw_bytes[root]) & (table.form[rows] == table.form[root])
    _, first = np.unique(rows[fits], return_index=True)
    rows, root = rows[fits][first], root[fits][first]
    leaning.base[rows] = root
    leaning.changed[rows] = True
    leant_on[root] = True


def _pairs(repo: Repo, marker: Marker) -> Iterator[tuple[Rows, Rows]]:
    """Rows of the blocks of a tensor, and of those of the same place in a parent, where they differ."""
    done: set[tuple[ObjectId, ObjectId]] = set()
    for commit in _parents_first(repo, marker):
        for parent in sorted(commit.parents, key=lambda one: _ROLES.index(one.role)):
            pair = (commit.manifest, repo.commit(parent.commit).manifest)
            if pair in done or pair[0] == pair[1]:
                continue
            done.add(pair)
            own, other = (_placed(repo, one) for one in pair)
            for place in own.keys() & other.keys():
                if own[place].block_ids != other[place].block_ids:
                    rows, beside = (rows_of(marker, side[place]) for side in (own, other))
                    differ = (rows >= 0) & (beside >= 0) & (rows != beside)
                    yield rows[differ], beside[differ]


def _parents_first(repo: Repo, marker: Marker) -> Iterator[Commit]:
    waiting = sorted(marker.commits)
    done: set[ObjectId] = set()
    while waiting:
        commit_id = waiting[-1]
        commit = repo.commit(commit_id)
        above = [parent.commit for parent in commit.parents if parent.commit not in done]
        if above and commit_id not in done:
            waiting += above
            continue
        waiting.pop()
        if commit_id not in done:
            done.add(commit_id)
            yield commit


def _placed(repo: Repo, manifest_id: ObjectId) -> dict[Place, TensorRecord]:
    records = repo.tensors(repo.manifest(manifest_id))
    return {
        (key, record.dtype, record.shape, record.block_elements): record for key, record in records.items()
    }


def rows_of(marker: Marker, record: TensorRecord) -> Rows:
    """int64[blocks]: rows of a tensor's blocks, -1 for one that is lost."""
    return marker.table.search(packindex.as_ids(record.block_ids))


def same_places(repo: Repo, marker: Marker) -> dict[Place, list[Rows]]:
    """Rows of the blocks of every tensor that lives, by its place in a checkpoint; each record once."""
    found: dict[Place, dict[bytes, Rows]] = {}
    for manifest_id in sorted(marker.manifests):
        for place, record in _placed(repo, manifest_id).items():
            of_place = found.setdefault(place, {})
            if record.block_ids not in of_place:
                of_place[record.block_ids] = rows_of(marker, record)
    return {place: list(of_place.values()) for place, of_place in found.items() if len(of_place) > 1}
