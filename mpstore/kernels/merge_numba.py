"""`merge_numpy` compiled: one pass over all deltas, in chunks that stay in the first-level caches.

Relies on numba and on the columns of `merge_numpy.Terms`. Promises: the same bits as the reference;
releases the interpreter lock; scratch is (k + 3) chunks of 4 096 float32. Loops run over slices from 0:
with an offset in the index numba checks for negative indices, and nothing is vectorised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from mpstore.kernels.jit import compiled
from mpstore.kernels.merge_numpy import Floats, Terms
from mpstore.kernels.random_numba import draw

_CHUNK = 4096


@intrinsic
def _float32_at(typing_context: Any, address: Any) -> Any:
    """An address as a pointer to float32: numba has no cheap way to pass k separate arrays."""
    del typing_context, address

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.uintp), build


_carray: Any = numba.carray  # type: ignore[attr-defined]
_at: Any = _float32_at


@compiled
def _weigh(delta: Any, low: Any, high: Any, scale: Any, weight: Any, part: Any, total: Any) -> None:
    for j in range(delta.size):
        d = delta[j]
        magnitude = abs(d)
        dropped = (magnitude < low) | (magnitude > high)
        y = (np.float32(0.0) if dropped else d) * scale * weight
        part[j] = y
        total[j] += y


@compiled
def _weigh_drawn(
    delta: Any, key: Any, keep: Any, first: Any, scale: Any, weight: Any, part: Any, total: Any
) -> None:
    for j in range(delta.size):
        dropped = draw(key, np.uint64(first + np.uint64(j))) >= keep
        y = (np.float32(0.0) if dropped else delta[j]) * scale * weight
        part[j] = y
        total[j] += y


@compiled
def _signs(total: Any) -> None:
    for j in range(total.size):
        total[j] = np.float32(1.0) if total[j] >= 0 else np.float32(-1.0)


@compiled
def _agree(part: Any, sign: Any, mixed: Any) -> None:
    for j in range(sign.size):
        y = part[j]
        mixed[j] += y * (np.float32(1.0) if y * sign[j] > 0 else np.float32(0.0))


@compiled
def _agree_counted(part: Any, weight: Any, sign: Any, mixed: Any, counted: Any) -> None:
    for j in range(sign.size):
        y = part[j]
        agrees = np.float32(1.0) if y * sign[j] > 0 else np.float32(0.0)
        mixed[j] += y * agrees
        counted[j] += weight * agrees


@compiled
def _divide(mixed: Any, counted: Any) -> None:
    for j in range(mixed.size):
        by = counted[j]
        mixed[j] /= np.float32(1.0) if by == 0 else by


@compiled
def _elect(parts: Any, weight: Any, normalize: bool, total: Any, merged: Any, counted: Any) -> None:
    """The sum of those that agree with the sign of `total` (which becomes that sign), or their mean."""
    width = total.size
    _signs(total)
    counted[:] = 0.0
    for e in range(weight.size):
        if normalize:
            _agree_counted(parts[e][:width], weight[e], total, merged, counted)
        else:
            _agree(parts[e][:width], total, merged)
    if normalize:
        _divide(merged, counted)


@compiled
def _finish(total: Any, base: Any, factor: Any, base_scale: Any, out: Any) -> None:
    keeps = base_scale == np.float32(1.0)
    for j in range(total.size):
        merged = total[j] * factor
        value = base[j] * base_scale + merged
        out[j] = base[j] if (merged == 0) & keeps else value


@compiled
def _combine(
    base: Any,
    addresses: Any,
    weight: Any,
    scale: Any,
    low: Any,
    high: Any,
    key: Any,
    keep: Any,
    flags: Any,
    factors: Any,
    start: Any,
    out: Any,
) -> None:
    random, elect, normalize = flags
    divisor, factor, base_scale = factors
    parts = np.empty((addresses.size, _CHUNK), np.float32)
    totals = np.empty(_CHUNK, np.float32)
    mixes = np.empty(_CHUNK, np.float32)
    counts = np.empty(_CHUNK, np.float32)
    for at in range(0, base.size, _CHUNK):
        width = min(_CHUNK, base.size - at)
        total = totals[:width]
        total[:] = 0.0
        for e in range(addresses.size):
            delta = _carray(_at(addresses[e]), (base.size,))[at : at + width]
            part = parts[e][:width]
            if random:
                first = start + np.uint64(at)
                _weigh_drawn(delta, key[e], keep[e], first, scale[e], weight[e], part, total)
            else:
                _weigh(delta, low[e], high[e], scale[e], weight[e], part, total)
        merged = total
        if elect:
            merged = mixes[:width]
            merged[:] = 0.0
            _elect(parts, weight, normalize, total, merged, counts[:width])
        elif normalize:
            for j in range(width):
                merged[j] /= divisor
        _finish(merged, base[at : at + width], factor, base_scale, out[at : at + width])


def combine(base: Floats, deltas: Sequence[Floats], terms: Terms, start: int, out: Floats) -> None:
    """`merge_numpy.combine`."""
    for array in (base, *deltas, out):  # addresses carry neither dtype nor bounds
        if array.dtype != np.float32 or array.shape != base.shape or not array.flags.c_contiguous:
            raise ValueError("combine takes C-contiguous float32 arrays of one shape (n,)")
    addresses = np.array([delta.ctypes.data for delta in deltas], np.uintp)
    _combine(
        base,
        addresses,
        terms.weight,
        terms.scale,
        terms.low,
        terms.high,
        terms.key,
        terms.keep,
        (terms.random, terms.elect, terms.normalize),
        (terms.divisor, terms.factor, terms.base_scale),
        np.uint64(start),
        out,
    )
