"""The tensors of an expert that are in the store: which blocks it changes, and what statistics say of them.

Relies on gather_draft and statistics. Promises: no I/O; all tensors at once, since a model has hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mpstore import blocks, dtypes
from mpstore.ids import block_id
from mpstore.kernels.idrows_numpy import differ
from mpstore.merge.gather_base import Ids, block_ids
from mpstore.merge.gather_draft import Draft
from mpstore.merge.plan_inputs import Flags, Integers
from mpstore.records.model import TensorRecord
from mpstore.statistics import DeltaStatistics

_Item = TypeVar("_Item", bound=np.generic)
UNMEASURED = "no statistics of this expert and base: `mp analyze` makes them"


def fill_stored(draft: Draft, records: Mapping[str, TensorRecord], known: DeltaStatistics | None) -> None:
    """Fill in the tensors that `records` and the base share, with what is known of their blocks."""
    draft.measured = known is not None
    tensors = [t for t, key in enumerate(draft.base.grid.keys) if key in records]
    chosen = [records[draft.base.grid.keys[t]] for t in tensors]
    rows = _joined([draft.base.span(t) for t in tensors])
    ids = block_ids(b"".join(one.block_ids for one in chosen))
    draft.ids = _filled(draft.ids, rows, ids)
    draft.candidate[rows] = _moved(draft, tensors, chosen, ids, rows)
    measured = _measured(draft, tensors, known) if known is not None else []
    for t in sorted(set(tensors) - set(measured)):
        draft.whole[t] = bool(draft.candidate[draft.base.span(t)].any())
        if draft.measured and draft.whole[t]:
            draft.fallbacks[draft.base.grid.keys[t]] = UNMEASURED


def _moved(
    draft: Draft,
    tensors: Sequence[int],
    records: Sequence[TensorRecord],
    ids: Ids,
    rows: Integers | slice,
) -> Flags:
    """Which of the blocks are not the base's; of a delta, which are not zero."""
    if draft.kind == "delta":
        still = np.concatenate([np.zeros((0, 32), np.uint8), *map(_zero_ids, records)])
    else:
        still = draft.base.ids[rows]
    moved: Flags = differ(ids, still)
    other = [one.dtype != draft.base.dtypes[t] for t, one in zip(tensors, records, strict=True)]
    if draft.kind != "delta" and any(other):
        moved |= np.repeat(np.array(other, np.bool_), [one.blocks for one in records])
    return moved


def _zero_ids(record: TensorRecord) -> Ids:
    """The ids that the tensor's blocks would have if all its bytes were zero."""
    bits = dtypes.known(record.dtype).bits
    sizes = list(blocks.byte_lengths(math.prod(record.shape) * bits // 8, bits, record.block_elements))
    ids = {size: block_id(bytes(size)) for size in set(sizes)}
    return block_ids(b"".join(ids[size] for size in sizes))


def _measured(draft: Draft, tensors: Sequence[int], known: DeltaStatistics) -> list[int]:
    """Fill in what the statistics know; the tensors of which they know."""
    spans = [(t, draft.base.span(t), known.rows(draft.base.grid.keys[t])) for t in tensors]
    spans = [one for one in spans if one[1].stop - one[1].start == one[2].stop - one[2].start]
    rows, source = _joined([one[1] for one in spans]), _joined([one[2] for one in spans])
    odd = known.nonfinite[source]
    draft.candidate[rows] &= (known.delta_max[source] != 0) | (odd > 0)
    draft.delta_sq = _filled(draft.delta_sq, rows, known.delta_sq[source])
    draft.base_sq = _filled(draft.base_sq, rows, known.base_sq[source])
    draft.finite[rows] = odd == 0
    draft.sketch = _filled(draft.sketch, rows, known.sketch[source])
    draft.sketch_scale = _filled(draft.sketch_scale, rows, known.sketch_scale[source])
    if odd.any():
        for t, _, own in spans:
            if known.nonfinite[own].any():
                draft.nonfinite[draft.base.grid.keys[t]] = int(known.nonfinite[own].sum())
    return [one[0] for one in spans]


def _filled(
    column: npt.NDArray[_Item], rows: Integers | slice, values: npt.NDArray[_Item]
) -> npt.NDArray[_Item]:
    """The column with `values` at its rows; where these are all, the values themselves: columns of a large
    model are megabytes, and nobody changes them."""
    if len(values) == len(column):
        return values
    column = column if column.flags.writeable else column.copy()
    column[rows] = values
    return column


def _joined(spans: Sequence[slice]) -> Integers | slice:
    """Runs of rows as one run where they follow each other, else row by row."""
    if all(one.stop == other.start for one, other in pairwise(spans)):
        return slice(spans[0].start, spans[-1].stop) if spans else slice(0, 0)
    return np.concatenate([np.arange(one.start, one.stop) for one in spans])
