"""What a worker does with one block of a tensor: hash, encode against the base, measure.

Relies on store, statistics and base_tensors. Promises: safe in any number of threads; the base's block is
decoded at most once for both purposes, and not at all where the ids say that it is this very block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.dtypes import Dtype
from mpstore.ingest.base_tensors import BaseTensor
from mpstore.statistics import Row, observe_many
from mpstore.store import Hint, ObjectWriter, Prepared

Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TensorWork:
    """`measure`: rows of statistics are wanted; `difference`: the tensor is no delta itself, so that it
    resembles the base's and is encoded against it."""

    writer: ObjectWriter
    dtype: Dtype
    base: BaseTensor | None
    measure: bool
    difference: bool

    def prepare(self, raws: Sequence[Bytes], first: int) -> list[tuple[Prepared, Row | None]]:
        """Consecutive blocks, the first of them being block `first`: ready to be appended, each with its row
        where one is wanted."""
        ids = kernels.pick("blake3").block_ids(raws)
        base, form = self.base, self.dtype.form
        hints = [Hint(form)] * len(raws)
        if base is None or not (self._leans or self.measure):
            return [(prepared, None) for prepared in self.writer.prepare_many(raws, hints, ids)]
        rows = range(first, first + len(raws))
        origins = [base.block(row) for row in rows]
        leans = self._leans
        equal = [leans and own_id == origin for origin, own_id in zip(origins, ids, strict=True)]
        base_raws = base.read([row for row, same in zip(rows, equal, strict=True) if not same])
        if leans:
            packs = base.packs(rows)
            hints = [
                Hint(form) if same else Hint(form, origin, base_raws[row], pack)
                for row, origin, pack, same in zip(rows, origins, packs, equal, strict=True)
            ]
        made = self.writer.prepare_many(raws, hints, ids)
        if not self.measure:
            return [(prepared, None) for prepared in made]
        others = [base_raws.get(row, raw) for row, raw in zip(rows, raws, strict=True)]
        seen = observe_many(others, base.dtype, raws, self.dtype, self.difference, equal)
        return list(zip(made, seen, strict=True))

    @property
    def _leans(self) -> bool:
        return self.base is not None and self.difference and self.base.dtype == self.dtype
