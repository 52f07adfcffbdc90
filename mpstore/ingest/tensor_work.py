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

from mpstore.dtypes import Dtype
from mpstore.ids import ObjectId, block_id
from mpstore.ingest.base_tensors import BaseTensor
from mpstore.statistics import Row, observe_raw
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
        ids = [block_id(raw.data) for raw in raws]
        base, form = self.base, self.dtype.form
        if base is None or not (self._leans or self.measure):
            return [
                (self.writer.prepare(raw, Hint(form), own_id), None)
                for raw, own_id in zip(raws, ids, strict=True)
            ]
        equal = [self._leans and own_id == base.block(first + k) for k, own_id in enumerate(ids)]
        base_raws = base.read([first + k for k, same in enumerate(equal) if not same])
        return [
            self._with_base(raw, ids[k], first + k, base_raws.get(first + k), base)
            for k, raw in enumerate(raws)
        ]

    @property
    def _leans(self) -> bool:
        return self.base is not None and self.difference and self.base.dtype == self.dtype

    def _with_base(
        self, raw: Bytes, own_id: ObjectId, index: int, base_raw: Bytes | None, base: BaseTensor
    ) -> tuple[Prepared, Row | None]:
        """`base_raw` None: the block is the base's."""
        leans = self._leans and base_raw is not None
        hint = Hint(self.dtype.form, base.block(index), base_raw) if leans else Hint(self.dtype.form)
        prepared = self.writer.prepare(raw, hint, own_id)
        if not self.measure:
            return prepared, None
        other = raw if base_raw is None else base_raw
        return prepared, observe_raw(
            other, base.dtype, raw, self.dtype, self.difference, equal=base_raw is None
        )
