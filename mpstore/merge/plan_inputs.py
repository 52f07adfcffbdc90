"""What the planner is told: plain columns over blocks and experts, nothing that can be read from.

Relies on numpy, ids and records. Promises: frozen values; two equal `PlanInputs` give the same plan, byte
for byte. `gather` makes them from a repository, the benchmarks from thin air.

The block axis (length N) runs over the output's float tensors in key order, each tensor's blocks in element
order. A *candidate* is a block of an expert that is there and is not known to equal the base's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mpstore.ids import ObjectId
from mpstore.records.model import CommitKind, Json

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

DEFAULT_MEMORY_BYTES = 4 * 2**30
"""What one application of an operator that needs rows or tensors whole may hold."""


@dataclass(frozen=True)
class Grid:
    """The blocks of the output and what is known of the base there.

    keys[t], blocks offsets[t]:offsets[t + 1] (int64, length T + 1); per block (length N): elements,
    base_frame_bytes (what reading the base's block costs, its own delta base included), base_sq (|base|^2,
    NaN where no statistics say). Per tensor (length T): `roundoff`, half the spacing of the output dtype at
    1 (0: no rounding), `underflow`, half its smallest subnormal: |round(y) - y| <= roundoff |y| + underflow;
    `keeps_base`: where no expert is read the output is the base's block itself, its values unchanged.
    """

    keys: tuple[str, ...]
    offsets: Integers
    elements: Integers
    base_frame_bytes: Integers
    base_sq: Floats
    roundoff: Floats
    underflow: Floats
    keeps_base: Flags

    @property
    def blocks(self) -> int:
        return int(self.offsets[-1])

    @property
    def tensor_of_block(self) -> npt.NDArray[np.int32]:
        """Index into `keys` of every block."""
        return np.repeat(np.arange(len(self.keys), dtype=np.int32), np.diff(self.offsets))


@dataclass(frozen=True)
class Sketches:
    """Sketch vectors of one expert's deltas, int8 (N, width) times scale float32 (N,); zeros: unknown."""

    vectors: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExpertColumns:
    """One expert of a plan.

    Per block: `candidate`; `frame_bytes`, physical bytes a read of it costs at most (0 where no candidate;
    of a LoRA adapter or a remote tensor the whole cost stands on the tensor's first block); `foreign`, a
    number for the delta base its frame leans on if that is not the merge's base block (-1: none), and
    `foreign_bytes`, that block's cost, paid once per output block and number; `delta_sq`, |delta|^2 (NaN:
    unknown). Per tensor: `coefficient` |lambda|, `sign` of the weight (+1 or -1), `whole` (all or nothing),
    `ranked` (the operator asks for thresholds). `fallbacks`: tensor key, or "*" for all, -> why whole.
    """

    model: str
    commit: ObjectId
    manifest: ObjectId
    kind: CommitKind
    params: Mapping[str, Json]
    raw_bytes: int
    candidate: Flags
    frame_bytes: Integers
    foreign: Integers
    foreign_bytes: Integers
    delta_sq: Floats
    coefficient: Floats
    sign: Floats
    whole: Flags
    ranked: Flags
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    sketches: Sketches | None = None


@dataclass(frozen=True)
class PlanInputs:
    """Everything a plan is made from, but for the limits.

    `additive`: the bound is a certificate. `base_scale` (T,): the most by which the operator multiplies the
    base. `gram` (T,): the operator asks for inner products over the whole tensor first. `scratch_bytes`
    (T,): memory one application needs at most. `mandatory`: nothing may be omitted (layers are stacked:
    there is no base to fall back to). `overlaps`: (i, j) with i < j -> <delta_i, delta_j> of two experts per
    block (N,), NaN where unknown; only for operators whose output is base + sum of lambda_i delta_i, element
    for element; `uncompared`: experts of whom it is unknown and could be known. `notes`: remarks for the
    user. The rest goes into the plan as it is.
    """

    operator: str
    additive: bool
    base_model: str
    base_commit: ObjectId
    base_manifest: ObjectId
    grid: Grid
    experts: tuple[ExpertColumns, ...]
    base_scale: Floats
    gram: Flags
    scratch_bytes: Integers
    params: Mapping[str, Json] = field(default_factory=dict)
    tensor_params: Mapping[str, Json] = field(default_factory=dict)
    outputs: Mapping[str, Json] = field(default_factory=dict)
    out_dtype: str = ""
    seed: int = 0
    recipe: str = ""
    mandatory: bool = False
    overlaps: Mapping[tuple[int, int], Floats] = field(default_factory=dict)
    uncompared: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What the user allows: bytes read for experts (None: no limit), relative error of the output (None:
    no limit), the policy that chooses ("": the default), and the memory one application may take."""

    budget_bytes: int | None = None
    max_error: float | None = None
    policy: str = ""
    memory_bytes: int = DEFAULT_MEMORY_BYTES
