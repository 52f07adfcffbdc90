"""One tensor of a merge as a value: which stored blocks go in, what must be known first, what comes out.

Relies on records, dtypes and the store's locations. Promises: plain values; nothing here reads a block.
`TensorWork.needed` are the blocks that must be computed; every other output block *is* the base's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.dtypes import Dtype
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.merge.operators.protocol import Operator, TensorContext
from mpstore.records.model import TensorRecord
from mpstore.statistics import Histogram
from mpstore.store import Locations, ObjectStore

F32: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stored:
    """Blocks of one stored tensor that are to be read.

    `blocks` (int64, ascending) are their numbers; row i of `locations` says where block blocks[i] lies;
    `row_of` maps a block's number to its row, -1 where it is not read.
    """

    dtype: Dtype
    record: TensorRecord
    blocks: Rows
    locations: Locations

    @cached_property
    def row_of(self) -> npt.NDArray[np.int64]:
        rows = np.full(self.record.blocks, -1, np.int64)
        rows[self.blocks] = np.arange(self.blocks.size)
        return rows

    @cached_property
    def numbers(self) -> list[int]:
        """`blocks`, as Python's own."""
        numbers: list[int] = self.blocks.tolist()
        return numbers

    def rows(self, blocks: Rows) -> Rows:
        """Rows of `locations` for those of `blocks` that are read."""
        found = self.row_of[blocks]
        return found[found >= 0]

    def frame_bytes(self, blocks: Rows) -> int:
        """What reading those of `blocks` costs, foreign bases apart."""
        return int(self.locations.frame_bytes[self.rows(blocks)].sum(dtype=np.int64))


class Formed(Protocol):
    """Deltas that are computed rather than stored block by block (a LoRA adapter's)."""

    source_ids: tuple[ObjectId, ...]  # the adapter's own tensors, and its scale: what the delta depends on

    def delta(self, start: int, stop: int, out: F32) -> int:
        """Fill `out` with delta[start:stop] of the flattened tensor; how many are NaN or infinite."""
        ...


@dataclass(frozen=True)
class Expert:
    """One expert of one tensor: `stored` or `formed`, or neither where it has nothing to give here.

    kind "full": the delta is the item minus the base's; "delta": the item itself. `histogram`: of |delta|
    over the whole tensor, from the statistics, where the operator asks for ranks.
    """

    kind: Literal["full", "delta", "lora"]
    stored: Stored | None = None
    formed: Formed | None = None
    histogram: Histogram | None = None

    def reads(self, block: int) -> bool:
        """Whether this expert changes the block."""
        if self.formed is not None:
            return True
        return self.stored is not None and bool(self.stored.row_of[block] >= 0)


@dataclass(frozen=True)
class TensorWork:
    """One output tensor.

    `needed` are the blocks to compute, `seen` (which contains them) those to look at for facts; `base`
    covers `seen`. Every other output block is the base's. `out_dtype` is what is written. `ranks[i]` are the
    ranks of |delta| of expert i that must be exact; where they are empty, `edges[i]` are its thresholds.
    `unit`: elements that one application takes together.
    """

    key: str
    shape: tuple[int, ...]
    elements: int
    block_elements: int
    operator: Operator
    context: TensorContext
    base_record: TensorRecord
    base: Stored
    out_dtype: Dtype
    experts: tuple[Expert, ...]
    needed: Rows
    seen: Rows
    ranks: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[float, ...], ...]
    gram: bool
    unit: int
    foreign: Mapping[ObjectId, int] = field(default_factory=dict)  # delta base -> row of foreign_locations
    foreign_locations: Locations | None = None
    base_purpose: str = "base"  # what reading `base` is counted as ("expert" in a stack of experts' layers)

    @property
    def same_dtype(self) -> bool:
        return self.out_dtype == self.base.dtype

    @property
    def facts_first(self) -> bool:
        """Whether the blocks must be seen once before any can be merged."""
        return self.gram or any(self.ranks)

    def plain(self, places: tuple[int, ...]) -> Flags:
        """Of some experts, whether their items are the delta itself."""
        found = self._plain.get(places)
        if found is None:
            found = np.array([self.experts[place].kind == "delta" for place in places], np.bool_)
            self._plain[places] = found
        return found

    @cached_property
    def _plain(self) -> dict[tuple[int, ...], Flags]:
        return {}

    @property
    def aligned(self) -> bool:
        """Whether each block is merged by itself: no unit reaches over a block's border."""
        return self.block_elements % self.unit == 0

    def span(self, block: int) -> tuple[int, int]:
        """(start, stop) in elements."""
        start = block * self.block_elements
        return start, min(start + self.block_elements, self.elements)

    def sources(self) -> list[tuple[Stored, str]]:
        """Everything that is read, with the purpose it is counted under."""
        stored = [(expert.stored, "expert") for expert in self.experts if expert.stored is not None]
        return [(self.base, self.base_purpose), *stored]

    def foreign_of(self, blocks: Rows) -> dict[ObjectId, str]:
        """Delta bases that frames of `blocks` lean on and that are not the base's own block, with the
        purpose they are read for (what the base needs itself is the base's cost)."""
        found: dict[ObjectId, str] = {}
        for stored, purpose in self.sources():
            rows = stored.rows(blocks)
            ids = stored.locations.base_ids[rows]
            for row in np.flatnonzero(ids.any(axis=1)):
                leaned = ids[row].tobytes()
                if leaned != self.base_record.block(int(stored.blocks[rows[row]])):
                    found.setdefault(leaned, purpose)
        return found

    def encoded_bytes(self, blocks: Rows) -> int:
        """Bytes to read for `blocks`, foreign bases included."""
        total = sum(stored.frame_bytes(blocks) for stored, _ in self.sources())
        if self.foreign_locations is not None:
            sizes = self.foreign_locations.frame_bytes
            total += sum(int(sizes[self.foreign[leaned]]) for leaned in self.foreign_of(blocks))
        return total

    def decoded_bytes(self, blocks: Rows) -> int:
        """Bytes of the same blocks once decoded."""
        per_element = sum(stored.dtype.bits // 8 * stored.rows(blocks).size for stored, _ in self.sources())
        return per_element * self.block_elements


def locate(store: ObjectStore, record: TensorRecord, dtype: Dtype, blocks: Rows) -> Stored:
    """Where the given blocks of a tensor lie. Missing ones stay `found == False` and fail when fetched."""
    ids = np.frombuffer(record.block_ids, np.uint8).reshape(-1, ID_BYTES)[blocks]
    return Stored(dtype, record, blocks, store.locate(ids.tobytes()))


def selected_blocks(bits: bytes, blocks: int) -> Flags:
    """A plan's packed bits as flags, one a block."""
    flags = np.unpackbits(np.frombuffer(bits, np.uint8), count=blocks, bitorder="big")
    return flags.astype(np.bool_)


def foreign_locations(
    store: ObjectStore, work_sources: Sequence[Stored], base_record: TensorRecord
) -> tuple[dict[ObjectId, int], Locations | None]:
    """All delta bases that the sources lean on besides the base's own blocks, found in one search."""
    ids: dict[ObjectId, int] = {}
    own = np.frombuffer(base_record.block_ids, np.uint8).reshape(-1, ID_BYTES)
    for stored in work_sources:
        leaned = stored.locations.base_ids
        for row in np.flatnonzero((leaned != own[stored.blocks]).any(axis=1) & stored.locations.based):
            ids.setdefault(leaned[row].tobytes(), len(ids))
    return (ids, store.locate(b"".join(ids)) if ids else None)
