"""What a worker does with one block of a tensor: hash, encode against the base, measure.

Relies on store, statistics and base_tensors. Promises: safe in any number of threads; the base's block is
decoded at most once for both purposes, and not at all where the ids say that it is this very block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.dtypes import Dtype
from mpstore.ids import block_id
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

    def prepare(self, raw: Bytes, index: int) -> tuple[Prepared, Row | None]:
        """The block, ready to be appended, and its row where one is wanted."""
        own_id = block_id(raw.data)
        base, form = self.base, self.dtype.form
        leans = base is not None and self.difference and base.dtype == self.dtype
        if base is None or not (leans or self.measure):
            return self.writer.prepare(raw, Hint(form), own_id), None
        equal = leans and own_id == base.block(index)
        base_raw = raw if equal else base.read(index)
        hint = Hint(form, base.block(index), base_raw) if leans and not equal else Hint(form)
        prepared = self.writer.prepare(raw, hint, own_id)
        if not self.measure:
            return prepared, None
        return prepared, observe_raw(base_raw, base.dtype, raw, self.dtype, self.difference, equal)
