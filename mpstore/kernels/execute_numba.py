"""`execute_numpy` compiled: the same functions, the same bits, one pass over memory each, without the GIL.

Relies on numba, which is why nothing imports this module before work pays for its start-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpstore.kernels.jit import compiled, inlined

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)


@compiled
def widen_bf16(words: Any, out: Any) -> None:
    bits = out.view(np.uint32)
    for i in range(words.size):
        bits[i] = np.uint32(words[i]) << np.uint32(16)


@inlined
def _half_to_float(word: Any) -> Any:
    magnitude = np.uint32(np.uint32(word) & np.uint32(0x7FFF))
    moved = np.uint32(magnitude << np.uint32(13))
    scaled = np.float32(moved.view(np.float32) * np.float32(2.0**112)).view(np.uint32)
    bits = np.uint32(moved | _INFINITY) if magnitude >= np.uint32(0x7C00) else np.uint32(scaled)
    return np.uint32(bits | ((np.uint32(word) & np.uint32(0x8000)) << np.uint32(16))).view(np.float32)


@compiled
def widen_f16(words: Any, out: Any) -> None:
    for i in range(words.size):
        out[i] = _half_to_float(words[i])


@inlined
def _minus(value: Any, base: Any) -> Any:
    """value - base, 0 where they are equal as numbers or as bits (infinities, NaN)."""
    left, right = np.float32(value), np.float32(base)
    equal = (left == right) | (left.view(np.uint32) == right.view(np.uint32))
    return np.float32(np.float32(0.0) if equal else left - right)


@compiled
def difference(values: Any, base: Any, out: Any) -> Any:
    nonfinite: Any = 0
    for i in range(values.size):
        value = np.float32(values[i])
        delta = _minus(value, np.float32(base[i]))
        out[i] = delta
        nonfinite += np.uint32(delta.view(np.uint32) & _MAGNITUDE) >= _INFINITY
    return nonfinite


@compiled
def difference_bf16(words: Any, base: Any, out: Any) -> Any:
    nonfinite: Any = 0
    for i in range(words.size):
        value = np.uint32(np.uint32(words[i]) << np.uint32(16)).view(np.float32)
        delta = _minus(value, np.float32(base[i]))
        out[i] = delta
        nonfinite += np.uint32(delta.view(np.uint32) & _MAGNITUDE) >= _INFINITY
    return nonfinite


@compiled
def difference_f16(words: Any, base: Any, out: Any) -> Any:
    nonfinite: Any = 0
    for i in range(words.size):
        value = _half_to_float(words[i])
        delta = _minus(value, np.float32(base[i]))
        out[i] = delta
        nonfinite += np.uint32(delta.view(np.uint32) & _MAGNITUDE) >= _INFINITY
    return nonfinite


@compiled
def count_nonfinite(values: Any) -> Any:
    bits = values.view(np.uint32)
    nonfinite: Any = 0
    for i in range(bits.size):
        nonfinite += np.uint32(bits[i] & _MAGNITUDE) >= _INFINITY
    return nonfinite


@compiled
def count_magnitudes(delta: Any, low: Any, shift: Any, counts: Any) -> None:
    first = np.uint32(low)
    span = np.uint32(min(counts.size << shift, 0xFFFFFFFF))
    step = np.uint32(shift)
    lowest = np.uint32(1 << shift)
    at_lowest = np.uint32(0)
    for start in range(0, delta.size, 512):
        bits = delta[start : start + 512].view(np.uint32)
        others = np.uint32(0)
        for i in range(bits.size):  # in vector registers: equal values in a row would wait for one counter
            # Patterns below `low` wrap to huge offsets, so one comparison bounds both ends.
            offset = np.uint32(np.uint32(bits[i] & _MAGNITUDE) - first)
            at_lowest += np.uint32(offset < lowest)
            others += np.uint32((offset >= lowest) & (offset < span))
        if others:
            for i in range(bits.size):
                offset = np.uint32(np.uint32(bits[i] & _MAGNITUDE) - first)
                if (offset >= lowest) & (offset < span):
                    counts[offset >> step] += np.uint32(1)
    counts[0] += at_lowest


@compiled
def collect_magnitudes(delta: Any, low: Any, high: Any, out: Any) -> Any:
    first = np.uint32(low)
    span = np.uint32(high - low)
    found: Any = 0
    for start in range(0, delta.size, 512):
        bits = delta[start : start + 512].view(np.uint32)
        inside = np.uint32(0)
        for i in range(bits.size):
            inside += np.uint32(np.uint32(np.uint32(bits[i] & _MAGNITUDE) - first) < span)
        if inside:
            for i in range(bits.size):
                pattern = np.uint32(bits[i] & _MAGNITUDE)
                if np.uint32(pattern - first) < span:
                    out[found] = pattern
                    found += 1
    return found


@compiled
def dot_chunks(a: Any, b: Any, out: Any) -> None:
    size = a.size
    lanes = np.zeros(8, np.float64)
    for chunk in range(out.size):
        start = chunk * 64
        if start + 64 <= size:
            for j in range(8):
                lanes[j] = np.float64(a[start + j]) * np.float64(b[start + j])
            for row in range(1, 8):
                for j in range(8):
                    k = start + 8 * row + j
                    lanes[j] += np.float64(a[k]) * np.float64(b[k])
        else:
            for j in range(8):
                lanes[j] = 0.0
            for k in range(start, size):
                lanes[(k - start) & 7] += np.float64(a[k]) * np.float64(b[k])
        first = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
        out[chunk] = first + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))


@compiled
def settle(values: Any, base: Any, out: Any) -> Any:
    nonfinite: Any = 0
    for i in range(values.size):
        keep = values[i] == base[i] or base[i] != base[i]
        value = np.float32(base[i] if keep else values[i])
        out[i] = value
        nonfinite += np.uint32(value.view(np.uint32) & _MAGNITUDE) >= _INFINITY
    return nonfinite


@compiled
def narrow_bf16(values: Any, base: Any, out: Any) -> Any:
    nonfinite: Any = 0
    for i in range(values.size):
        keep = values[i] == base[i] or base[i] != base[i]
        value = np.float32(base[i] if keep else values[i])
        bits = np.uint32(value.view(np.uint32))
        high = np.uint32(bits >> np.uint32(16))
        rounded = np.uint32(bits + np.uint32(0x7FFF) + (high & np.uint32(1))) >> np.uint32(16)
        quiet = high if high & np.uint32(0x7F) else np.uint32(high | np.uint32(0x40))
        magnitude = np.uint32(bits & _MAGNITUDE)
        out[i] = quiet if magnitude > _INFINITY else rounded
        nonfinite += magnitude >= _INFINITY
    return nonfinite


@compiled
def narrow_f16(values: Any, base: Any, out: Any) -> Any:
    nonfinite: Any = 0
    for i in range(values.size):
        keep = values[i] == base[i] or base[i] != base[i]
        value = np.float32(base[i] if keep else values[i])
        bits = np.uint32(value.view(np.uint32))
        magnitude = np.uint32(bits & _MAGNITUDE)
        if magnitude > _INFINITY:
            payload = np.uint32((magnitude >> np.uint32(13)) & np.uint32(0x3FF))
            half = np.uint32(0x7C00) | (payload if payload else np.uint32(0x200))
        elif magnitude >= np.uint32(0x477FF000):
            half = np.uint32(0x7C00)
        elif magnitude < np.uint32(0x38800000):
            small = np.float32(magnitude.view(np.float32) + np.float32(0.5))
            half = np.uint32(small.view(np.uint32) - np.uint32(0x3F000000))
        else:
            odd = np.uint32((magnitude >> np.uint32(13)) & np.uint32(1))
            half = np.uint32(magnitude - np.uint32(0x38000000) + np.uint32(0xFFF) + odd) >> np.uint32(13)
        out[i] = half | (np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))
        nonfinite += magnitude >= _INFINITY
    return nonfinite
