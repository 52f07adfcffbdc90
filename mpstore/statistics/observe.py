"""One block of base and expert in, one row of statistics out. Pure.

Relies on kernels and dtypes. Promises: the same bytes give the same row whatever machine, thread or
kernel; elements whose delta is not finite are counted and stay out of every sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.dtypes import Dtype, Float32Array, to_float32
from mpstore.ids import Buffer
from mpstore.kernels.statistics_numpy import LANES, Observation

SKETCH_WIDTH: Final = LANES
"""Entries of a block's sketch: a count sketch whose bucket is the element's position modulo 32 and whose
signs are pseudo-random (Charikar, Chen, Farach-Colton 2002): it keeps inner products in the mean."""


@dataclass(frozen=True)
class Row:
    """Statistics of one block. `equal`: its bytes are the base's (of a delta: all zero). Of a tensor that is
    not measured (integers, flags, packed floats) that is all, and the sums are zero. Of blocks observed
    together, the first row has the bins of all."""

    equal: bool
    seen: Observation


def observe(base: Float32Array, expert: Float32Array, difference: bool = True) -> Row:
    """The row of one block: base and expert float32, shape (n,).

    `difference`: delta is expert - base. Otherwise the expert's values are the delta (a delta checkpoint).
    """
    equal = bool(np.array_equal(base.view(np.uint32), expert.view(np.uint32)))
    kernel = kernels.pick("statistics")
    equal = equal if difference else not expert.view(np.uint32).any()
    return Row(equal, kernel.observe(base, expert, difference))


_NO_SKETCH: Final = np.zeros(SKETCH_WIDTH, np.int8)
_NO_BINS: Final = np.zeros(0, np.uint16)
_NO_COUNTS: Final = np.zeros(0, np.uint32)
_UNMEASURED: Final = Observation(0.0, 0.0, 0.0, _NO_SKETCH, 0.0, _NO_BINS, _NO_COUNTS, _NO_COUNTS, 0, 0.0)


def _operand(raw: Buffer | npt.NDArray[np.uint8], dtype: Dtype, patterns: bool) -> npt.NDArray[Any]:
    """What the kernel takes: bfloat16 patterns as they lie where both are, else float32."""
    return np.frombuffer(raw, np.uint16) if patterns else to_float32(raw, dtype)


def observe_raw(
    base: Buffer | npt.NDArray[np.uint8],
    base_dtype: Dtype,
    expert: Buffer | npt.NDArray[np.uint8],
    expert_dtype: Dtype,
    difference: bool = True,
    equal: bool | None = None,
) -> Row:
    """`observe` on a block's bytes. `equal` spares the comparison where ids have already told."""
    if difference and equal is None:
        equal = base_dtype.name == expert_dtype.name and bytes(base) == bytes(expert)
    return observe_many([base], base_dtype, [expert], expert_dtype, difference, [bool(equal)])[0]


def observe_many(
    bases: Sequence[Buffer | npt.NDArray[np.uint8]],
    base_dtype: Dtype,
    experts: Sequence[Buffer | npt.NDArray[np.uint8]],
    expert_dtype: Dtype,
    difference: bool,
    equal: Sequence[bool],
) -> list[Row]:
    """`observe_raw` of several blocks of a tensor; the first row has the bins of all. `equal` says of which
    the bytes are the base's; of deltas (`difference` False) it is found out."""
    if not difference:
        equal = [not np.frombuffer(expert, np.uint8).any() for expert in experts]
    if not (base_dtype.is_float and expert_dtype.is_float):
        return [Row(same, _UNMEASURED) for same in equal]
    alike = base_dtype.name == expert_dtype.name == "BF16"
    origins = [_operand(base, base_dtype, alike) for base in bases]
    values = [_operand(expert, expert_dtype, alike) for expert in experts]
    kernel = kernels.pick("statistics")
    seen = kernel.observe_many(origins, values, difference)
    return [Row(same, one) for same, one in zip(equal, seen, strict=True)]
