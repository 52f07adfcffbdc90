"""Where objects lie: columns over the ids that were asked for.

Relies on numpy. Promises: plain values; row i speaks of the i-th asked id.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mpstore.ids import ID_BYTES, ObjectId


@dataclass(frozen=True)
class Locations:
    """Columns over n asked ids; where `found` is False the rest is zero.

    ids: uint8[n, 32]; found: bool[n]; pack: int32[n], the store's number of the pack; offset: uint64[n];
    frame_bytes: uint32[n], header and payload, exactly what a read costs; raw_bytes: uint32[n];
    codec, form: uint8[n]; base_ids: uint8[n, 32], zeros where the frame leans on no base.
    """

    ids: npt.NDArray[np.uint8]
    found: npt.NDArray[np.bool_]
    pack: npt.NDArray[np.int32]
    offset: npt.NDArray[np.uint64]
    frame_bytes: npt.NDArray[np.uint32]
    raw_bytes: npt.NDArray[np.uint32]
    codec: npt.NDArray[np.uint8]
    form: npt.NDArray[np.uint8]
    base_ids: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def based(self) -> npt.NDArray[np.bool_]:
        """bool[n]: whether the frame leans on a base."""
        return np.asarray(self.base_ids.any(axis=1))

    def take(self, rows: Any) -> Locations:
        """The locations of some rows (any numpy index)."""
        return Locations(*[getattr(self, name)[rows] for name in _COLUMNS])


_COLUMNS: Final = tuple(field.name for field in fields(Locations))


class Place(NamedTuple):
    """Where one object lies: the store's number of the pack, and what the index has of the frame."""

    pack: int
    offset: int
    frame_bytes: int
    raw_bytes: int
    codec: int
    form: int
    base: ObjectId

    @property
    def based(self) -> bool:
        """Whether the frame leans on a base."""
        return any(self.base)


def nowhere(ids: npt.NDArray[np.uint8]) -> Locations:
    """Nothing found yet, columns to be filled in."""
    n = len(ids)
    return Locations(
        ids=ids,
        found=np.zeros(n, np.bool_),
        pack=np.zeros(n, np.int32),
        offset=np.zeros(n, np.uint64),
        frame_bytes=np.zeros(n, np.uint32),
        raw_bytes=np.zeros(n, np.uint32),
        codec=np.zeros(n, np.uint8),
        form=np.zeros(n, np.uint8),
        base_ids=np.zeros((n, ID_BYTES), np.uint8),
    )
