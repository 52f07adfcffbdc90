"""`merge_numpy` compiled: one pass over all deltas, in chunks that stay in the first-level caches.

Relies on numba and on the columns of `merge_numpy.Terms`. Promises: the same bits as the reference;
releases the interpreter lock; scratch is a few dozen KB. Loops run over slices from 0: with an offset in the
index numba checks for negative indices, and nothing is vectorised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from mpstore.kernels import merge_numpy
from mpstore.kernels.jit import compiled
from mpstore.kernels.merge_numpy import MAGNITUDE, NAN, Floats, Terms
from mpstore.kernels.random_numba import draw

_CHUNK = 1024
_MASK_BITS = 64
_TABLE_BITS = 8


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
def _weigh(delta: Any, low: Any, high: Any, scale: Any, weight: Any, part: Any, largest: Any) -> None:
    for j in range(delta.size):
        d = delta[j]
        magnitude = abs(d)
        dropped = (magnitude < low) | (magnitude > high)
        y = np.float32((np.float32(0.0) if dropped else d) * scale * weight)
        part[j] = y
        pattern = np.uint32(y.view(np.uint32) & MAGNITUDE)
        largest[j] = pattern if pattern > largest[j] else largest[j]


@compiled
def _weigh_drawn(
    delta: Any, key: Any, keep: Any, first: Any, scale: Any, weight: Any, part: Any, largest: Any
) -> None:
    for j in range(delta.size):
        dropped = draw(key, np.uint64(first + np.uint64(j))) >= keep
        y = np.float32((np.float32(0.0) if dropped else delta[j]) * scale * weight)
        part[j] = y
        pattern = np.uint32(y.view(np.uint32) & MAGNITUDE)
        largest[j] = pattern if pattern > largest[j] else largest[j]


@compiled
def _grid(largest: Any, spare: Any, to_grid: Any) -> None:
    for j in range(largest.size):
        exponent = np.uint64(largest[j] >> np.uint32(23))
        bits = np.uint64((exponent + np.uint64(1023 - 127 + spare)) << np.uint64(52)) | np.uint64(1 << 51)
        to_grid[j] = np.float64(0.0) if exponent == np.uint64(255) else np.uint64(bits).view(np.float64)


@compiled
def _add(part: Any, to_grid: Any, total: Any) -> None:
    for j in range(part.size):
        total[j] += (np.float64(part[j]) + to_grid[j]) - to_grid[j]


@compiled
def _add_split(part: Any, to_grid: Any, total: Any, plus: Any) -> None:
    for j in range(part.size):
        y = (np.float64(part[j]) + to_grid[j]) - to_grid[j]
        total[j] += y
        plus[j] += y if y > 0 else 0.0


@compiled
def _elected(total: Any, plus: Any, merged: Any, sign: Any) -> None:
    for j in range(total.size):
        p = plus[j]
        m = total[j] - p
        up = total[j] >= 0
        merged[j] = np.float32(p if up else m)
        sign[j] = np.float32(1.0 if up else -1.0)


@compiled
def _mark(part: Any, bit: Any, sign: Any, agree: Any) -> None:
    none = bit ^ bit
    for j in range(part.size):
        agree[j] |= bit if part[j] * sign[j] > 0 else none


@compiled
def _divide(agree: Any, tables: Any, merged: Any) -> None:
    """By the weights that agree: tables[t, m] sums those of the weights 8 t .. 8 t + 7 whose bit is in m."""
    for j in range(agree.size):
        mask = np.uint64(agree[j])
        divisor = 0.0
        for t in range(tables.shape[0]):
            divisor += tables[t, np.intp((mask >> np.uint64(8 * t)) & np.uint64(255))]
        merged[j] /= np.float32(1.0 if divisor == 0.0 else divisor)


@compiled
def _divide_few(agree: Any, table: Any, merged: Any) -> None:
    """`_divide` for up to 8 weights: their sums are at hand in float32, 1 in place of 0."""
    for j in range(agree.size):
        merged[j] /= table[agree[j] & np.uint32(255)]


@compiled
def _finish(merged: Any, base: Any, factor: Any, base_scale: Any, out: Any) -> None:
    keeps = base_scale == np.float32(1.0)
    for j in range(merged.size):
        m = merged[j] * factor
        value = base[j] * base_scale + m
        value = NAN if value != value else value
        out[j] = base[j] if (m == 0) & keeps else value


@compiled
def _chunk_sums(parts: Any, bits: Any, elect: bool, buffers: Any, tables: Any, few: Any, merged: Any) -> None:
    """From weighed parts to the merged delta of one chunk."""
    to_grid, total, plus, sign, agree = buffers
    width = merged.size
    total[:] = 0.0
    plus[:] = 0.0
    for e in range(bits.size):
        part = parts[e][:width]
        if elect:
            _add_split(part, to_grid, total, plus)
        else:
            _add(part, to_grid, total)
    if not elect:
        for j in range(width):
            merged[j] = np.float32(total[j])
        return
    _elected(total, plus, merged, sign)
    if tables.shape[0]:
        agree[:] = 0
        for e in range(bits.size):
            _mark(parts[e][:width], bits[e], sign, agree)
        if tables.shape[0] == 1:
            _divide_few(agree, few, merged)
        else:
            _divide(agree, tables, merged)


@compiled
def _combine(
    base: Any,
    addresses: Any,
    columns: Any,
    draws: Any,
    bits: Any,
    tables: Any,
    flags: Any,
    factors: Any,
    out: Any,
) -> None:
    weight, scale, low, high = columns
    key, keep, start, spare = draws
    random, elect, normalize = flags
    divisor, factor, base_scale = factors
    parts = np.empty((addresses.size, _CHUNK), np.float32)
    merges = np.empty(_CHUNK, np.float32)
    tops = np.empty(_CHUNK, np.uint32)
    wide = np.empty((3, _CHUNK), np.float64)
    signs = np.empty(_CHUNK, np.float32)
    masks = np.empty(_CHUNK, bits.dtype)
    few = np.ones(256, np.float32)
    if tables.shape[0]:
        for m in range(256):
            few[m] = np.float32(1.0 if tables[0, m] == 0.0 else tables[0, m])
    for at in range(0, base.size, _CHUNK):
        width = min(_CHUNK, base.size - at)
        largest = tops[:width]
        largest[:] = 0
        for e in range(addresses.size):
            delta = _carray(_at(addresses[e]), (base.size,))[at : at + width]
            part = parts[e][:width]
            if random:
                first = start + np.uint64(at)
                _weigh_drawn(delta, key[e], keep[e], first, scale[e], weight[e], part, largest)
            else:
                _weigh(delta, low[e], high[e], scale[e], weight[e], part, largest)
        _grid(largest, spare, wide[0][:width])
        merged = merges[:width]
        buffers = (wide[0][:width], wide[1][:width], wide[2][:width], signs[:width], masks[:width])
        _chunk_sums(parts, bits, elect, buffers, tables, few, merged)
        if normalize and not elect:
            for j in range(width):
                merged[j] /= divisor
        _finish(merged, base[at : at + width], factor, base_scale, out[at : at + width])


def _tables(terms: Terms) -> npt.NDArray[np.float64]:
    """tables[t, m]: the exact sum of the weights 8 t + i for the bits i of m; none where nothing divides."""
    if not (terms.elect and terms.normalize):
        return np.zeros((0, 1 << _TABLE_BITS), np.float64)
    weights = merge_numpy.exact_weights(terms.weight, terms.spare)
    tables = np.zeros((-(-weights.size // _TABLE_BITS), 1 << _TABLE_BITS), np.float64)
    chosen = np.arange(1 << _TABLE_BITS)
    for i, weight in enumerate(weights):
        tables[i // _TABLE_BITS] += np.where((chosen >> (i % _TABLE_BITS)) & 1, weight, 0.0)
    return tables


def combine(base: Floats, deltas: Sequence[Floats], terms: Terms, start: int, out: Floats) -> None:
    """`merge_numpy.combine`."""
    for array in (base, *deltas, out):  # addresses carry neither dtype nor bounds
        if array.dtype != np.float32 or array.shape != base.shape or not array.flags.c_contiguous:
            raise ValueError("combine takes C-contiguous float32 arrays of one shape (n,)")
    if len(deltas) > _MASK_BITS:
        merge_numpy.combine(base, deltas, terms, start, out)
        return
    mask: Any = np.uint32 if len(deltas) <= 32 else np.uint64
    _combine(
        base,
        np.array([delta.ctypes.data for delta in deltas], np.uintp),
        (terms.weight, terms.scale, terms.low, terms.high),
        (terms.key, terms.keep, np.uint64(start), terms.spare),
        np.array([1 << e for e in range(len(deltas))], mask),
        _tables(terms),
        (terms.random, terms.elect, terms.normalize),
        (terms.divisor, terms.factor, terms.base_scale),
        out,
    )
