"""The base of a merge as the block axis: float tensors in key order, and what reading each block costs.

Relies on repository and blocks. Promises: records and index columns are read, no block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpstore import dtypes
from mpstore.errors import IncompatibleError
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.kernels.idrows_numpy import differ
from mpstore.merge.elsewhere import is_elsewhere
from mpstore.merge.plan_inputs import Grid, Integers
from mpstore.records.model import Manifest, TensorRecord
from mpstore.repository import Repo
from mpstore.store import Found

Ids = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BaseModel:
    """`records` are all of the base's tensors, `grid` the float ones (what depends on the merge left open),
    `ids` (N, 32) their blocks, `dtypes` (T,) their dtypes. `here`: all of its weights are in the
    store."""

    manifest: ObjectId
    records: Mapping[str, TensorRecord]
    grid: Grid
    ids: Ids
    dtypes: tuple[str, ...]
    here: bool = True

    def span(self, t: int) -> slice:
        """The blocks of tensor t on the block axis."""
        return slice(int(self.grid.offsets[t]), int(self.grid.offsets[t + 1]))


def is_merged(record: TensorRecord) -> bool:
    """Whether a merge computes with the tensor; all others are copied from the base."""
    dtype = dtypes.of(record.dtype)
    return dtype is not None and dtype.is_float


def base_model(repo: Repo, manifest: ObjectId, records: Mapping[str, TensorRecord]) -> BaseModel:
    """The base's float tensors, located."""
    keys = tuple(sorted(key for key, record in records.items() if is_merged(record)))
    chosen = [records[key] for key in keys]
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([record.blocks for record in chosen], out=offsets[1:])
    ids = block_ids(b"".join(record.block_ids for record in chosen))
    count = int(offsets[-1])
    grid = Grid(
        keys=keys,
        offsets=offsets,
        elements=np.concatenate([block_elements(record) for record in chosen] or [np.zeros(0, np.int64)]),
        base_frame_bytes=read_costs(repo, chosen),
        base_sq=np.full(count, np.nan),
        roundoff=np.zeros(len(keys)),
        underflow=np.zeros(len(keys)),
        keeps_base=np.ones(len(keys), np.bool_),
    )
    here = not any(map(is_elsewhere, records.values()))
    return BaseModel(manifest, records, grid, ids, tuple(record.dtype for record in chosen), here)


def block_elements(record: TensorRecord) -> Integers:
    """Elements of each block of a tensor."""
    sizes = np.full(record.blocks, record.block_elements, np.int64)
    if record.blocks:
        sizes[-1] = math.prod(record.shape) - (record.blocks - 1) * record.block_elements
    return sizes


def block_ids(joined: bytes) -> Ids:
    """Concatenated ids as rows of 32 bytes."""
    return np.frombuffer(joined, np.uint8).reshape(-1, ID_BYTES)


def rows_of(ids: Ids, rows: Integers) -> Ids:
    """The ids (n, 32) at ascending rows, without a copy where these are all."""
    return ids if len(rows) == len(ids) else ids.take(rows, axis=0)


def located(repo: Repo, ids: Ids) -> Found:
    """Where blocks lie. One that is nowhere raises what the store says of it: DamagedError names it."""
    return all_located(repo, [ids])[0]


def all_located(repo: Repo, groups: Sequence[Ids]) -> list[Found]:
    """The same for several groups of blocks, in a fraction of the time that group by group would take."""
    packs = repo.objects.packs
    places = packs.locate_many(groups)
    lost = [one.ids[row].tobytes() for one in places for row in np.flatnonzero(~one.found)]
    for block in lost:
        repo.objects.find(block)  # looks wherever it could be, or raises
    return packs.locate_many(groups) if lost else places


def foreign_bases(repo: Repo, places: Found, own: Ids) -> tuple[Integers, Ids]:
    """Which frames (m,) lean on a block other than `own` (n, 32), the base's at their position, and on which
    (m, 32). One that the base's own frame leans on as well is read with the base, and is none."""
    leaning = np.flatnonzero(places.leaning_elsewhere(own))
    ids = places.base_ids(leaning)
    if leaning.size:
        (base,) = repo.objects.packs.locate_many([own.take(leaning, axis=0)])
        apart = np.flatnonzero(differ(ids, base.base_ids()))
        leaning, ids = leaning[apart], ids.take(apart, axis=0)
    return leaning, ids


def read_costs(repo: Repo, records: Sequence[TensorRecord]) -> Integers:
    """What reading each block of these tensors takes: its frame and the delta base that it leans on; of a
    tensor that is elsewhere its raw bytes, as nobody knows yet how they will be coded."""
    here = np.array([not is_elsewhere(one) for one in records], np.bool_)
    there = np.repeat(here, np.array([one.blocks for one in records], np.int64))
    costs = np.zeros(len(there), np.int64)
    lengths = [length for one in records if is_elsewhere(one) for length in repo.block_lengths(one)]
    costs[~there] = lengths
    places = located(repo, block_ids(b"".join(one.block_ids for one in records if not is_elsewhere(one))))
    own = places.column("frame_bytes").astype(np.int64)
    based = np.flatnonzero(places.based)
    own[based] += located(repo, places.base_ids(based)).column("frame_bytes")
    costs[there] = own
    return costs


def weight_bytes(manifest: Manifest) -> int:
    """What reading a checkpoint's weights whole and unencoded takes: the size of its safetensors files."""
    return sum(entry.size for entry in manifest.files if entry.kind == "safetensors")


def misfit(expert: str, key: str, own: TensorRecord, base: TensorRecord) -> IncompatibleError | None:
    """Why an expert's tensor cannot be merged with the base's, if it cannot."""
    if own.shape != base.shape:
        return IncompatibleError(
            f"{expert}: tensor {key!r} has shape {list(own.shape)}, the base's has {list(base.shape)}",
            hint="experts of one merge are fine-tunes of one base: the same tensors, the same shapes",
        )
    if is_merged(own) != is_merged(base):
        return IncompatibleError(f"{expert}: tensor {key!r} is {own.dtype}, the base's is {base.dtype}")
    if own.block_elements != base.block_elements:
        return IncompatibleError(
            f"{expert}: tensor {key!r} is cut into blocks of {own.block_elements} elements, the base's into "
            f"{base.block_elements}",
            hint="add one of the two again: `mp add` cuts it as the repository does now",
        )
    return None
