"""What a merge does to a block besides the operator: widen, subtract the base, count, sum, round back.

Relies on numpy. Promises: the reference for `execute_native`, bit for bit. Words are little-endian bit
patterns (uint16 for BF16 and F16); every function works element by element, or in chunks of 64 elements in
element order, so its result does not show where a block begins. `out` arrays are written whole.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
U16: TypeAlias = npt.NDArray[np.uint16]
U32: TypeAlias = npt.NDArray[np.uint32]
AnyArray: TypeAlias = npt.NDArray[Any]

CHUNK: Final = 64
_MAGNITUDE: Final = np.uint32(0x7FFFFFFF)
_INFINITY: Final = np.uint32(0x7F800000)


def widen_bf16(words: U16, out: F32) -> None:
    """bfloat16 patterns to float32, exact."""
    np.left_shift(words, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32)


def widen_f16(words: U16, out: F32) -> None:
    """float16 patterns to float32, exact; NaN keeps its payload."""
    bits = words.astype(np.uint32)
    magnitude = bits & np.uint32(0x7FFF)
    # A half's exponent and mantissa moved up read 2^-112 times its value as float32, subnormals included.
    scaled = (magnitude << np.uint32(13)).view(np.float32) * np.float32(2.0**112)
    special = (magnitude << np.uint32(13)) | _INFINITY
    widened = np.where(magnitude >= np.uint32(0x7C00), special, scaled.view(np.uint32))
    np.bitwise_or(widened, (bits & np.uint32(0x8000)) << np.uint32(16), out=out.view(np.uint32))


def difference(values: F32, base: F32, out: F32) -> int:
    """out = values - base, 0 where they are equal (as bits too: infinities, NaN); how many are not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(values, base, out=out)
    out[(values == base) | (values.view(np.uint32) == base.view(np.uint32))] = 0.0
    return int(np.count_nonzero((out.view(np.uint32) & _MAGNITUDE) >= _INFINITY))


def difference_bf16(words: U16, base: F32, out: F32) -> int:
    """`difference` of bfloat16 patterns."""
    widen_bf16(words, out)
    return difference(out.copy(), base, out)


def difference_f16(words: U16, base: F32, out: F32) -> int:
    """`difference` of float16 patterns."""
    widen_f16(words, out)
    return difference(out.copy(), base, out)


def count_nonfinite(values: F32) -> int:
    """How many values are NaN or infinite."""
    return int(np.count_nonzero((values.view(np.uint32) & _MAGNITUDE) >= _INFINITY))


def count_magnitudes(delta: F32, low: int, shift: int, counts: U32) -> None:
    """Add to counts[j] the elements with low + (j << shift) <= pattern(|delta|) < low + (j + 1 << shift)."""
    offset = (delta.view(np.uint32) & _MAGNITUDE).astype(np.int64) - low
    index = offset[offset >= 0] >> shift
    counts += np.bincount(index[index < counts.size], minlength=counts.size).astype(np.uint32)


def collect_magnitudes(delta: F32, low: int, high: int, out: U32) -> int:
    """Put the patterns low <= pattern(|delta|) < high into `out`, in order; how many."""
    patterns = delta.view(np.uint32) & _MAGNITUDE
    found = patterns[(patterns >= low) & (patterns < high)]
    out[: found.size] = found
    return int(found.size)


def dot_chunks(a: F32, b: F32, out: F64) -> None:
    """out[c] = inner product of elements 64 c .. 64 c + 63 in float64: eight lanes, then a fixed tree.

    `out` has ceil(n / 64) entries; a short last chunk counts as padded with zeros.
    """
    product = np.zeros((out.size, 8, 8), np.float64)
    np.multiply(a, b, out=product.reshape(-1)[: a.size], dtype=np.float64)
    lane = product[:, 0, :]
    for row in range(1, 8):
        lane = lane + product[:, row, :]
    pairs = lane[:, 0::2] + lane[:, 1::2]
    fours = pairs[:, 0::2] + pairs[:, 1::2]
    np.add(fours[:, 0], fours[:, 1], out=out)


def settle(values: F32, base: F32, out: F32) -> int:
    """out = values, but base where they are equal or base is NaN; how many results are NaN or infinite.

    So an element that no delta moves keeps its bits (-0.0 + 0.0 would lose a sign, NaN a payload).
    """
    keep = (values == base) | (base != base)
    np.copyto(out.view(np.uint32), np.where(keep, base.view(np.uint32), values.view(np.uint32)))
    return count_nonfinite(out)


def narrow_bf16(values: F32, base: F32, out: U16) -> int:
    """`settle`, then round to bfloat16 (nearest, ties to even); a NaN stays one."""
    settled = np.empty(values.shape, np.float32)
    nonfinite = settle(values, base, settled)
    bits = settled.view(np.uint32)
    high = bits >> np.uint32(16)
    rounded = (bits + np.uint32(0x7FFF) + (high & np.uint32(1))) >> np.uint32(16)
    quiet = high | np.where(high & np.uint32(0x7F), np.uint32(0), np.uint32(0x40))
    np.copyto(out, np.where((bits & _MAGNITUDE) > _INFINITY, quiet, rounded), casting="unsafe")
    return nonfinite


def narrow_f16(values: F32, base: F32, out: U16) -> int:
    """`settle`, then round to float16 (nearest, ties to even; past 65 504 infinity); a NaN stays one.

    Returns how many settled values were NaN or infinite before rounding.
    """
    settled = np.empty(values.shape, np.float32)
    nonfinite = settle(values, base, settled)
    bits = settled.view(np.uint32)
    magnitude = bits & _MAGNITUDE
    odd = (magnitude >> np.uint32(13)) & np.uint32(1)
    half = (magnitude - np.uint32(0x38000000) + np.uint32(0xFFF) + odd) >> np.uint32(13)
    # Adding 0.5 rounds a magnitude below 2^-14 to multiples of 2^-24, the step of float16's subnormals.
    tiny = magnitude < np.uint32(0x38800000)
    small = np.where(tiny, magnitude, np.uint32(0)).view(np.float32) + np.float32(0.5)
    half = np.where(tiny, small.view(np.uint32) - np.uint32(0x3F000000), half)
    half = np.where(magnitude >= np.uint32(0x477FF000), np.uint32(0x7C00), half)
    payload = (magnitude >> np.uint32(13)) & np.uint32(0x3FF)
    nan = np.uint32(0x7C00) | np.where(payload, payload, np.uint32(0x200))
    half = np.where(magnitude > _INFINITY, nan, half)
    np.copyto(out, half | ((bits >> np.uint32(16)) & np.uint32(0x8000)), casting="unsafe")
    return nonfinite
