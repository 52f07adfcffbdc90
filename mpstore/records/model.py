"""The records of the store as frozen values: what a commit, a manifest, a tensor, a plan *is*.

Relies on ids only. Promises: plain values without behaviour beyond small derived properties; how they
become bytes is `records.encoding`'s business. Field order here is field order in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from mpstore.ids import ID_BYTES, ObjectId

FileKind: TypeAlias = Literal["safetensors", "opaque"]
CommitKind: TypeAlias = Literal["full", "delta", "lora"]
BoundKind: TypeAlias = Literal["certificate", "estimate"]
Json: TypeAlias = Any  # str, int, float, bool, None, list or dict of these


@dataclass(frozen=True)
class TensorRecord:
    """One tensor's content: dtype (safetensors name, e.g. "BF16"), shape, and its blocks in element order.

    `block_ids` is the ids concatenated (32 bytes each); every block holds `block_elements` elements
    except the last. An empty tensor has no block; a zero-dimensional one has one element.
    """

    KIND: ClassVar[str] = "tensor"
    dtype: str
    shape: tuple[int, ...]
    block_elements: int
    block_ids: bytes

    @property
    def blocks(self) -> int:
        return len(self.block_ids) // ID_BYTES

    def block(self, index: int) -> ObjectId:
        return self.block_ids[index * ID_BYTES : (index + 1) * ID_BYTES]


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint. path is POSIX, relative, normalized.

    safetensors: `content_ids` are the blocks of the first 8 + N bytes (length and JSON header, verbatim),
    `tensors` the tensor keys in file (offset) order; the file is these bytes followed by the tensors' bytes.
    opaque: `content_ids` are the blocks of the whole file, `tensors` is empty.
    `sha256` is of the whole file; b"" for a safetensors file that a merge made (it never read the blocks it
    left alone): its content is proved block by block, and a checkout can only check its size.
    """

    path: str
    kind: FileKind
    size: int
    sha256: bytes
    content_ids: bytes
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The record of one checkpoint: its files (sorted by path) and tensor key -> tensor record id.

    Keys are sorted. A value of b"" marks a tensor whose content is not in the store (partial manifest,
    made by merging straight from a remote); dtype and shape of such a tensor are in its file's header.
    Keys are the safetensors names, prefixed with "subdirectory/" for files in subdirectories, and with
    "file.safetensors:" where a second file of the same directory repeats a name.
    """

    KIND: ClassVar[str] = "manifest"
    files: tuple[FileEntry, ...]
    tensors: Mapping[str, ObjectId]

    @property
    def partial(self) -> bool:
        return any(not record for record in self.tensors.values())


@dataclass(frozen=True)
class Parent:
    """An edge of the lineage: role is "previous", "base" or "expert"."""

    role: str
    commit: ObjectId


@dataclass(frozen=True)
class Commit:
    """Manifest + parents + who/when/why + how it was made.

    `how` is JSON-able: always `verb` ("add", "merge", "pull"); for merges `plan` and `coverage` (hex ids),
    `recipe` (text), `figures`; for pulls `origin` {repo, revision, commit}; for adds `base` (hex) when given.
    """

    KIND: ClassVar[str] = "commit"
    manifest: ObjectId
    parents: tuple[Parent, ...]
    kind: CommitKind
    author: str
    time_ns: int
    message: str
    how: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanExpert:
    """One expert of a plan.

    `model` is what the user called it, `selection` maps tensor key -> packed bits (numpy packbits, big
    order, one bit a block; bit set = read it). A tensor absent from `selection` is not read at all;
    blocks equal to the base's or absent from the expert are never selected. `layers` is "all" today.
    """

    model: str
    commit: ObjectId
    manifest: ObjectId
    kind: CommitKind
    params: Mapping[str, Json]
    selection: Mapping[str, bytes]
    cost_bytes: int
    layers: str = "all"


@dataclass(frozen=True)
class Plan:
    """What a merge may read and do. Same input, same plan, same id.

    `params` are the operator's global parameters, `tensor_params` the canonical JSON of per-tensor
    overrides (gradients, filters) already resolved: tensor key -> {"global": {...}, "experts": [{...}]},
    present only for tensors that differ from the defaults. `outputs` maps output tensor key -> source key
    lists when slices rearrange layers; empty for a plain merge. `bound` is on the l2 norm of the output's
    error, `relative_bound` the same over the norm of the base; both are inf where something that was never
    measured is omitted. `binding` is the limit that decided: "none", "budget" or "max_error". `facts` records
    how thresholds are found, for tensors whose operator asks for any: one word per expert, joined by commas
    ("exact": all its blocks are read, "edge": some, so the statistics' bin edge serves, "none").
    `fallbacks` says why an expert was selected by whole tensors. `base_model` is what the user called it.
    """

    KIND: ClassVar[str] = "plan"
    operator: str
    base_commit: ObjectId
    base_manifest: ObjectId
    experts: tuple[PlanExpert, ...]
    params: Mapping[str, Json]
    tensor_params: Mapping[str, Json]
    outputs: Mapping[str, Json]
    out_dtype: str
    seed: int
    policy: str
    budget_bytes: int | None
    max_error: float | None
    cost_bytes: int
    base_cost_bytes: int
    full_raw_bytes: int
    full_stored_bytes: int
    omitted_blocks: int
    bound: float
    relative_bound: float
    bound_kind: BoundKind
    exact: bool
    binding: str
    facts: Mapping[str, str]
    fallbacks: Mapping[str, str]
    recipe: str
    base_model: str = ""


@dataclass(frozen=True)
class Coverage:
    """What a merge realized (the paper's TOUCHMAP and COVERAGE): per expert, tensor key -> packed bits of
    the blocks that were read and applied; and the figures of the run that do not depend on the machine."""

    KIND: ClassVar[str] = "coverage"
    plan: ObjectId
    touched: tuple[Mapping[str, bytes], ...]
    figures: Mapping[str, Json]


@dataclass(frozen=True)
class Columns:
    """A record of named columns: little-endian arrays as bytes, with their numpy dtype strings and shapes.

    Used for `stats`; `meta` is JSON-able and says what the rows are. See docs/format.md.
    """

    KIND: ClassVar[str] = "columns"
    purpose: str
    meta: Mapping[str, Json]
    arrays: Mapping[str, tuple[str, tuple[int, ...], bytes]]


Record: TypeAlias = TensorRecord | Manifest | Commit | Plan | Coverage | Columns
