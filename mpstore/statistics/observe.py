"""One block of base and expert in, one row of statistics out. Pure.

Relies on kernels and dtypes. Promises: the same bytes give the same row whatever machine, thread or
kernel; elements whose delta is not finite are counted and stay out of every sum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore.dtypes import Dtype, Float32Array, to_float32
from mpstore.ids import Buffer
from mpstore.kernels.statistics_numpy import LANES, Observation

SKETCH_WIDTH: Final = LANES
"""Entries of a block's sketch: a count sketch whose bucket is the element's position modulo 32 and whose
signs are pseudo-random (Charikar, Chen, Farach-Colton 2002): it keeps inner products in the mean."""

_Kernel: TypeAlias = Callable[[npt.NDArray[Any], npt.NDArray[Any], bool], Observation]


@dataclass(frozen=True)
class Row:
    """Statistics of one block. `equal`: its bytes are the base's (of a delta: all zero). Of a tensor that is
    not measured (integers, flags, packed floats) that is all, and the sums are zero."""

    equal: bool
    seen: Observation


@functools.cache
def _kernel() -> _Kernel:
    try:
        from mpstore.kernels.statistics_numba import observe as compiled
    except ImportError:
        from mpstore.kernels.statistics_numpy import observe as reference

        return reference
    return compiled


def _row(base: npt.NDArray[Any], expert: npt.NDArray[Any], difference: bool, equal: bool) -> Row:
    return Row(equal, _kernel()(base, expert, difference))


def observe(base: Float32Array, expert: Float32Array, difference: bool = True) -> Row:
    """The row of one block: base and expert float32, shape (n,).

    `difference`: delta is expert - base. Otherwise the expert's values are the delta (a delta checkpoint).
    """
    equal = bool(np.array_equal(base.view(np.uint32), expert.view(np.uint32)))
    return _row(base, expert, difference, equal if difference else not expert.view(np.uint32).any())


_NO_SKETCH: Final = np.zeros(SKETCH_WIDTH, np.int8)
_NO_BINS: Final = np.zeros(0, np.uint16)
_UNMEASURED: Final = Observation(0.0, 0.0, 0.0, _NO_SKETCH, 0.0, _NO_BINS, np.zeros(0, np.uint32), 0, 0.0)


def _operand(raw: Buffer | npt.NDArray[np.uint8], dtype: Dtype) -> npt.NDArray[Any]:
    """What the kernel takes: bfloat16 patterns as they lie, everything else as float32."""
    return np.frombuffer(raw, np.uint16) if dtype.name == "BF16" else to_float32(raw, dtype)


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
    elif not difference:
        equal = not np.frombuffer(expert, np.uint8).any()
    if not (base_dtype.is_float and expert_dtype.is_float):
        return Row(bool(equal), _UNMEASURED)
    pair = _operand(base, base_dtype), _operand(expert, expert_dtype)
    if pair[0].dtype != pair[1].dtype:
        pair = to_float32(base, base_dtype), to_float32(expert, expert_dtype)
    return _row(*pair, difference, bool(equal))
