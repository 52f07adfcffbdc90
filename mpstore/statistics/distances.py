"""How far a checkpoint is from others, block by block.

Relies on records and arrays. Promises: `from_record(to_record(d))` is `d`; a record that contradicts itself
is DamagedError. Layout of the record: docs/format.md.

From |x_j - x_i|^2 = |delta_j - delta_i|^2 follows <delta_i, delta_j>, whatever base deltas are taken from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.ids import ID_BYTES, ObjectId, to_hex
from mpstore.records.model import Columns
from mpstore.statistics.arrays import Reader, array, damaged, key_list
from mpstore.statistics.columns import ref_name

PURPOSE: Final = "distances"


@dataclass(frozen=True)
class Distances:
    """|x - y|^2 between the checkpoint `manifest` (x) and each of `others` (y).

    Tensor t of `keys` (sorted) has rows offsets[t]:offsets[t + 1], its blocks. `apart` float64 (others,
    rows): NaN where a difference is not finite, or the other has no such tensor.
    """

    manifest: ObjectId
    others: tuple[ObjectId, ...]
    keys: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    apart: npt.NDArray[np.float64]

    def rows(self, key: str) -> slice:
        """The tensor's rows; empty where it is not among them."""
        t = self._position.get(key)
        return slice(0, 0) if t is None else slice(int(self.offsets[t]), int(self.offsets[t + 1]))

    @cached_property
    def _position(self) -> dict[str, int]:
        return {key: t for t, key in enumerate(self.keys)}

    def to(self, other: ObjectId) -> npt.NDArray[np.float64] | None:
        """The distances to one of the others, (rows,)."""
        return self.apart[self.others.index(other)] if other in self.others else None

    def merged(self, newer: Distances) -> Distances:
        """Both; of others that both have, the newer."""
        if (self.manifest, self.keys, self.offsets.tolist()) != (
            newer.manifest,
            newer.keys,
            newer.offsets.tolist(),
        ):
            return newer
        known = {one: self.apart[row] for row, one in enumerate(self.others)}
        known |= {one: newer.apart[row] for row, one in enumerate(newer.others)}
        others = tuple(sorted(known))
        return Distances(
            self.manifest, others, self.keys, self.offsets, np.stack([known[one] for one in others])
        )


def distances_ref(manifest: ObjectId) -> str:
    """The ref under which a checkpoint's distances are found: as if it were its own base."""
    return ref_name(manifest, manifest)


def to_record(distances: Distances) -> Columns:
    """The record."""
    meta = {
        "manifest": to_hex(distances.manifest),
        "others": "\n".join(map(to_hex, distances.others)),
        "keys": "\n".join(distances.keys),
    }
    return Columns(
        PURPOSE,
        meta,
        {
            "blocks": array(np.diff(distances.offsets).astype(np.uint32)),
            "apart": array(distances.apart.ravel()),
        },
    )


def from_record(record: Columns) -> Distances:
    """The distances of a record; DamagedError where it contradicts itself."""
    try:
        manifest = bytes.fromhex(record.meta["manifest"])
        others = tuple(bytes.fromhex(one) for one in key_list(record.meta["others"]))
        keys = key_list(record.meta["keys"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(f"its meta lacks {error}") from None
    known = all(len(one) == ID_BYTES for one in (manifest, *others)) and list(keys) == sorted(set(keys))
    if record.purpose != PURPOSE or not known or len(set(others)) < len(others):
        raise damaged("its meta is not that of distances")
    reader = Reader(record)
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(reader.take("blocks", "<u4", len(keys)), out=offsets[1:])
    rows = int(offsets[-1])
    apart = reader.take("apart", "<f8", rows * len(others)).reshape(len(others), rows)
    return Distances(manifest, others, keys, offsets, apart)
