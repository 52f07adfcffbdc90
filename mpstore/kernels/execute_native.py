"""`execute_numpy` in C: the same functions, the same bits, one pass over memory each, without the GIL.

Relies on the extension of `kernels.native`. Promises: arrays that do not fit are refused (ValueError).
"""

from __future__ import annotations

from mpstore.kernels import native
from mpstore.kernels.execute_numpy import F32, F64, U16, U32


def widen_bf16(words: U16, out: F32) -> None:
    """As the reference."""
    native.library().widen_bf16(words, out)


def widen_f16(words: U16, out: F32) -> None:
    """As the reference."""
    native.library().widen_f16(words, out)


def difference(values: F32, base: F32, out: F32) -> int:
    """As the reference."""
    return int(native.library().difference(values, base, out))


def difference_bf16(words: U16, base: F32, out: F32) -> int:
    """As the reference."""
    return int(native.library().difference_bf16(words, base, out))


def difference_f16(words: U16, base: F32, out: F32) -> int:
    """As the reference."""
    return int(native.library().difference_f16(words, base, out))


def count_nonfinite(values: F32) -> int:
    """As the reference."""
    return int(native.library().count_nonfinite(values))


def count_magnitudes(delta: F32, low: int, shift: int, counts: U32) -> None:
    """As the reference."""
    native.library().count_magnitudes(delta, low, shift, counts)


def collect_magnitudes(delta: F32, low: int, high: int, out: U32) -> int:
    """As the reference; `out` has as many items as `delta`."""
    return int(native.library().collect_magnitudes(delta, low, high, out))


def dot_chunks(a: F32, b: F32, out: F64) -> None:
    """As the reference."""
    native.library().dot_chunks(a, b, out)


def settle(values: F32, base: F32, out: F32) -> int:
    """As the reference."""
    return int(native.library().settle(values, base, out))


def narrow_bf16(values: F32, base: F32, out: U16) -> int:
    """As the reference."""
    return int(native.library().narrow_bf16(values, base, out))


def narrow_f16(values: F32, base: F32, out: U16) -> int:
    """As the reference."""
    return int(native.library().narrow_f16(values, base, out))
