"""Rows for blocks that are in the store: for pairs, or tensors, whose data did not come by.

Relies on store, dtypes and observe. Promises: the row is that which ingest would have made.
"""

from __future__ import annotations

import math
from functools import partial

from mpstore import dtypes
from mpstore.errors import DamagedError
from mpstore.pipeline import OrderedPipeline
from mpstore.records.model import TensorRecord
from mpstore.statistics.gather import Collector
from mpstore.statistics.observe import Row, observe_raw
from mpstore.store import ObjectStore


def comparable(base: TensorRecord, expert: TensorRecord) -> bool:
    """Whether the two tensors have the same blocks, element for element."""
    return base.shape == expert.shape and base.block_elements == expert.block_elements


def measure_stored(
    store: ObjectStore,
    pipeline: OrderedPipeline,
    collector: Collector,
    key: str,
    base: TensorRecord,
    expert: TensorRecord,
    difference: bool,
) -> None:
    """Have the pipeline collect every row of two comparable tensors anew."""
    collector.discard(key)
    collector.expect(key, expert.blocks, math.prod(expert.shape))
    for index in range(expert.blocks):
        work = partial(observe_stored, store, base, expert, index, difference)
        pipeline.submit(work, partial(collector.add, key, index))


def observe_stored(
    store: ObjectStore, base: TensorRecord, expert: TensorRecord, index: int, difference: bool
) -> Row:
    """The row of block `index` of two comparable tensors; DamagedError where either cannot be read."""
    base_dtype, expert_dtype = dtypes.of(base.dtype), dtypes.of(expert.dtype)
    if base_dtype is None or expert_dtype is None:
        raise DamagedError(f"a tensor of unknown dtype {base.dtype} or {expert.dtype}")
    base_raw = store.read(base.block(index), "base")
    equal = base.block(index) == expert.block(index) and base_dtype == expert_dtype
    if equal:
        return observe_raw(base_raw, base_dtype, base_raw, expert_dtype, difference, equal=True)
    frame = next(store.fetch(store.find(expert.block(index)), None, "other"))
    raw = store.decode(frame, base_raw if frame.base == base.block(index) else None)
    return observe_raw(base_raw, base_dtype, raw, expert_dtype, difference, equal=False)
