"""The statistics of a (base, expert) pair as columns, and their record.

Relies on records and numpy. Promises: `from_columns(to_columns(s))` is `s`; a record that contradicts itself
is DamagedError before anything of its claimed size is allocated (histograms that do: when asked for). Layout
of the record: docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.ids import ID_BYTES, ObjectId, to_hex
from mpstore.records.model import Columns
from mpstore.statistics import histogram_columns
from mpstore.statistics.arrays import Reader, array, damaged, key_list
from mpstore.statistics.histogram import Histogram
from mpstore.statistics.histogram_columns import PackedHistograms
from mpstore.statistics.observe import SKETCH_WIDTH

ExpertKind: TypeAlias = Literal["full", "delta"]
PURPOSE: Final = "statistics"


@dataclass(frozen=True)
class DeltaStatistics:
    """What is known of every block that base and expert share. Rows follow tensor key, then block order.

    Shapes: offsets int64 (tensors + 1,), every other column (rows,), sketch (rows, SKETCH_WIDTH). Tensor t of
    `keys` (sorted) has rows offsets[t]:offsets[t + 1]. delta_sq, delta_max, dot_base_delta and base_sq cover
    the elements whose delta is finite, and of the base's values the finite ones; `nonfinite` counts the other
    deltas. `equal`: the block is the base's, byte for byte. `histograms` has the tensors of more than one
    block. The vector sketch * sketch_scale of a block stands for its delta: of two experts of one base their
    inner product estimates that of the deltas, with standard error |delta_a| |delta_b| / sqrt(SKETCH_WIDTH).
    """

    base_manifest: ObjectId
    expert_manifest: ObjectId
    expert_kind: ExpertKind
    block_elements: int
    keys: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    equal: npt.NDArray[np.bool_]
    delta_sq: npt.NDArray[np.float64]
    delta_max: npt.NDArray[np.float32]
    dot_base_delta: npt.NDArray[np.float64]
    base_sq: npt.NDArray[np.float64]
    nonfinite: npt.NDArray[np.int64]
    sketch: npt.NDArray[np.int8]
    sketch_scale: npt.NDArray[np.float32]
    histograms: Mapping[str, Histogram]
    _position: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_position", {key: t for t, key in enumerate(self.keys)})

    def rows(self, key: str) -> slice:
        """The tensor's rows; empty where the pair does not share it."""
        t = self._position.get(key)
        return slice(0, 0) if t is None else slice(int(self.offsets[t]), int(self.offsets[t + 1]))


def ref_name(base_manifest: ObjectId, expert_manifest: ObjectId) -> str:
    """The ref under which a pair's statistics are found."""
    return f"stats/{to_hex(base_manifest, 16)}-{to_hex(expert_manifest, 16)}"


def to_columns(statistics: DeltaStatistics) -> Columns:
    """The record. Columns of the delta are kept only for rows that are not equal; they are zero elsewhere."""
    moved = ~statistics.equal
    odd = np.flatnonzero(statistics.nonfinite)
    arrays: dict[str, npt.NDArray[Any]] = {
        "blocks": np.diff(statistics.offsets).astype(np.uint32),
        "equal": np.packbits(statistics.equal),
        "delta_sq": statistics.delta_sq[moved],
        "delta_max": statistics.delta_max[moved],
        "dot_base_delta": statistics.dot_base_delta[moved],
        "base_sq": statistics.base_sq,
        "nonfinite_rows": odd.astype(np.uint32),
        "nonfinite": statistics.nonfinite[odd],
        "sketch": statistics.sketch[moved],
        "sketch_scale": statistics.sketch_scale[moved],
        **histogram_columns.pack(statistics.keys, statistics.histograms),
    }
    meta = {
        "base": to_hex(statistics.base_manifest),
        "expert": to_hex(statistics.expert_manifest),
        "kind": statistics.expert_kind,
        "block_elements": statistics.block_elements,
        "keys": "\n".join(statistics.keys),  # no list: records keep those short
    }
    return Columns(PURPOSE, meta, {name: array(values) for name, values in arrays.items()})


def from_columns(record: Columns) -> DeltaStatistics:
    """The statistics of a record; DamagedError where it contradicts itself."""
    base, expert, kind, block_elements, keys = _meta(record)
    reader = Reader(record)
    blocks = reader.take("blocks", "<u4", len(keys))
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(blocks, out=offsets[1:])
    base_sq = reader.take("base_sq", "<f8", None)
    rows = base_sq.size
    if int(offsets[-1]) != rows:
        raise damaged(f"{rows} rows for {int(offsets[-1])} blocks")
    equal = np.unpackbits(reader.take("equal", "|u1", -(-rows // 8)), count=rows).astype(np.bool_)
    place = np.cumsum(~equal) - 1  # of each row among those that moved
    some = rows - int(equal.sum())

    def spread(name: str, dtype: str, width: int | None = None) -> npt.NDArray[Any]:
        return _spread(reader.take(name, dtype, some, width), equal, place)

    nonfinite = np.zeros(rows, np.int64)
    at = reader.take("nonfinite_rows", "<u4", None)
    if at.size and int(at.max()) >= rows:
        raise damaged("a non-finite row past the end")
    nonfinite[at] = reader.take("nonfinite", "<i8", at.size)
    return DeltaStatistics(
        base,
        expert,
        kind,
        block_elements,
        keys,
        offsets,
        equal,
        spread("delta_sq", "<f8"),
        spread("delta_max", "<f4"),
        spread("dot_base_delta", "<f8"),
        base_sq,
        nonfinite,
        spread("sketch", "|i1", SKETCH_WIDTH),
        spread("sketch_scale", "<f4"),
        _histograms(reader, keys),
    )


def _spread(
    column: npt.NDArray[Any], equal: npt.NDArray[np.bool_], place: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """The rows that moved among all rows, zero elsewhere."""
    if len(column) == len(equal):
        return column
    if not len(column):
        return np.zeros((len(equal), *column.shape[1:]), column.dtype)
    out: npt.NDArray[Any] = column.take(place, axis=0, mode="clip")  # a fraction of the time of a mask
    out[equal] = 0
    return out


def _histograms(reader: Reader, keys: tuple[str, ...]) -> PackedHistograms:
    edges, counts = reader.take("edges", "|u1", None), reader.take("counts", "|u1", None)
    over = reader.take("over", "|u1", None) if reader.has("over") else None
    return PackedHistograms(keys, reader.take("bins", "<u4", len(keys)), edges, counts, over)


def _meta(record: Columns) -> tuple[ObjectId, ObjectId, ExpertKind, int, tuple[str, ...]]:
    meta = record.meta
    try:
        base, expert = bytes.fromhex(meta["base"]), bytes.fromhex(meta["expert"])
        kind, block_elements, keys = meta["kind"], meta["block_elements"], key_list(meta["keys"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(f"its meta lacks {error}") from None
    named = all(isinstance(key, str) for key in keys) and list(keys) == sorted(set(keys))
    ids = len(base) == ID_BYTES and len(expert) == ID_BYTES
    if record.purpose != PURPOSE or kind not in ("full", "delta") or not named or not ids:
        raise damaged("its meta is not that of statistics")
    if not isinstance(block_elements, int) or block_elements < 1:
        raise damaged(f"block_elements {block_elements!r}")
    return base, expert, kind, block_elements, keys
