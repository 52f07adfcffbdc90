"""How far blocks that are in the store are from each other, several checkpoints at once.

Relies on store, dtypes and observe. Promises: each block is read and decoded once, however many pairs it is
in; the figures are those that statistics of the pair would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import dtypes
from mpstore.ids import ObjectId
from mpstore.records.model import TensorRecord
from mpstore.statistics.observe import observe_many
from mpstore.store import Frame, ObjectStore

Pair: TypeAlias = tuple[ObjectId, ObjectId]
Bytes: TypeAlias = npt.NDArray[np.uint8]


def apart(
    store: ObjectStore,
    records: Mapping[ObjectId, TensorRecord],
    pairs: Sequence[Pair],
    start: int,
    stop: int,
) -> list[npt.NDArray[np.float64]]:
    """|x - y|^2 of blocks start to stop of one tensor, for each pair (stop - start,); NaN where a difference
    is not finite. `records`: the tensor of each checkpoint, comparable within each pair."""
    members = {one for pair in pairs for one in pair}
    ids = {one: [records[one].block(index) for index in range(start, stop)] for one in members}
    differ = {pair: _differ(records, ids, pair) for pair in pairs}
    raws = _decoded(store, {ids[one][at] for pair, rows in differ.items() for one in pair for at in rows})
    found = []
    for pair, rows in differ.items():
        squares = np.zeros(stop - start)
        if rows:
            one, other = ([raws[ids[member][at]] for at in rows] for member in pair)
            kinds = [dtypes.known(records[member].dtype) for member in pair]
            seen = observe_many(one, kinds[0], other, kinds[1], True, [False] * len(rows))
            squares[rows] = [np.nan if row.seen.nonfinite else row.seen.delta_sq for row in seen]
        found.append(squares)
    return found


def _differ(
    records: Mapping[ObjectId, TensorRecord], ids: Mapping[ObjectId, Sequence[ObjectId]], pair: Pair
) -> list[int]:
    one, other = pair
    alike = records[one].dtype == records[other].dtype
    return [at for at, (x, y) in enumerate(zip(ids[one], ids[other], strict=True)) if x != y or not alike]


def _decoded(store: ObjectStore, wanted: Iterable[ObjectId]) -> dict[ObjectId, Bytes]:
    frames = _frames(store, wanted, "other")
    bases = _frames(store, {frame.base for frame in frames if frame.needs_base}, "base")
    known = dict(zip((frame.id for frame in bases), store.decode_many(bases), strict=True))
    return dict(zip((frame.id for frame in frames), store.decode_many(frames, known), strict=True))


def _frames(store: ObjectStore, wanted: Iterable[ObjectId], purpose: str) -> list[Frame]:
    """The frames of these objects; DamagedError: one is not to be had."""
    ids = sorted(wanted)
    places = store.locate(b"".join(ids))
    if not places.found.all():
        for row in np.flatnonzero(~places.found):
            store.find(ids[row])  # looks wherever it could be, or raises
        places = store.locate(b"".join(ids))
    return list(store.fetch(places, None, purpose))
