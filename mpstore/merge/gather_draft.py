"""An expert's columns while they are filled.

Relies on gather_base and statistics. Promises: plain arrays over the base's blocks and tensors; nothing read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mpstore.ids import ID_BYTES
from mpstore.merge.gather_base import BaseModel, Ids
from mpstore.merge.plan_inputs import Flags, Floats, Integers
from mpstore.records.model import CommitKind
from mpstore.statistics import SKETCH_WIDTH


@dataclass
class Draft:
    """Columns of the expert called `name`; `measured`: there are statistics, `priced`: blocks whose cost is
    known already."""

    name: str
    kind: CommitKind
    base: BaseModel
    measured: bool
    candidate: Flags
    ids: Ids
    frame_bytes: Integers
    delta_sq: Floats
    base_sq: Floats
    finite: Flags
    whole: Flags
    sketch: npt.NDArray[np.int8]
    sketch_scale: npt.NDArray[np.float32]
    priced: Flags
    fallbacks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mixed: set[str] = field(default_factory=set)
    nonfinite: dict[str, int] = field(default_factory=dict)


def draft_of(name: str, kind: CommitKind, base: BaseModel) -> Draft:
    """An expert of which nothing is known yet: it changes no block. Columns that are mostly replaced as they
    are have one row for all, and cannot be written to; see `gather_stored`."""
    n = base.grid.blocks
    return Draft(
        name=name,
        kind=kind,
        base=base,
        measured=False,
        candidate=np.zeros(n, np.bool_),
        ids=np.broadcast_to(np.zeros((1, ID_BYTES), np.uint8), (n, ID_BYTES)),
        frame_bytes=np.zeros(n, np.int64),
        delta_sq=np.broadcast_to(np.full(1, np.nan), n),
        base_sq=np.broadcast_to(np.full(1, np.nan), n),
        finite=np.zeros(n, np.bool_),
        whole=np.zeros(len(base.grid.keys), np.bool_),
        sketch=np.broadcast_to(np.zeros((1, SKETCH_WIDTH), np.int8), (n, SKETCH_WIDTH)),
        sketch_scale=np.broadcast_to(np.zeros(1, np.float32), n),
        priced=np.zeros(n, np.bool_),
    )
