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
from mpstore.statistics import SKETCH_WIDTH, DeltaStatistics


@dataclass
class Draft:
    """Columns of the expert called `name`; `priced`: blocks whose cost is known already."""

    name: str
    kind: CommitKind
    base: BaseModel
    known: DeltaStatistics | None
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
    """An expert of which nothing is known yet: it changes no block."""
    n = base.grid.blocks
    return Draft(
        name=name,
        kind=kind,
        base=base,
        known=None,
        candidate=np.zeros(n, np.bool_),
        ids=np.zeros((n, ID_BYTES), np.uint8),
        frame_bytes=np.zeros(n, np.int64),
        delta_sq=np.full(n, np.nan),
        base_sq=np.full(n, np.nan),
        finite=np.zeros(n, np.bool_),
        whole=np.zeros(len(base.grid.keys), np.bool_),
        sketch=np.zeros((n, SKETCH_WIDTH), np.int8),
        sketch_scale=np.zeros(n, np.float32),
        priced=np.zeros(n, np.bool_),
    )
