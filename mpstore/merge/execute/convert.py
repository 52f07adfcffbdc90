"""Stored bytes to float32 and back, for one block: the kernels where there is one, `dtypes` for the rest.

Relies on dtypes and kernels. Promises: upward exact (F64 is rounded once), downward round to nearest even; an
element that no delta moves keeps the base's bits; the same bits from every kernel.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import dtypes, kernels
from mpstore.dtypes import Dtype

F32: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]


def kernel() -> Any:
    """The compiled kernels, or their numpy reference."""
    return kernels.pick("execute")


def _words(raw: Any) -> Any:
    return np.frombuffer(raw, np.uint16)


def widen(raw: Any, dtype: Dtype, out: F32) -> int:
    """Fill float32 `out` of shape (n,) with the items of `raw`; how many are NaN or infinite."""
    if dtype.name == "BF16":
        kernel().widen_bf16(_words(raw), out)
    elif dtype.name == "F16":
        kernel().widen_f16(_words(raw), out)
    else:
        np.copyto(out, dtypes.to_float32(raw, dtype))
    return int(kernel().count_nonfinite(out))


def difference(raw: Any, dtype: Dtype, base: F32, out: F32) -> int:
    """Fill `out` with the items of `raw` minus `base`, 0 where equal; how many are NaN or infinite."""
    if dtype.name == "BF16":
        return int(kernel().difference_bf16(_words(raw), base, out))
    if dtype.name == "F16":
        return int(kernel().difference_f16(_words(raw), base, out))
    return int(kernel().difference(dtypes.to_float32(raw, dtype), base, out))


def narrow(values: F32, base: F32, base_raw: Any | None, dtype: Dtype) -> Bytes:
    """`values` as bytes of `dtype`; where they equal `base` (or it is NaN) the base's own bits.

    `base_raw`: the base's bytes where they are of `dtype` too, None where the dtype changes.
    """
    if dtype.name in ("BF16", "F16"):
        words = np.empty(values.size, np.uint16)
        chosen = kernel()
        (chosen.narrow_bf16 if dtype.name == "BF16" else chosen.narrow_f16)(values, base, words)
        return words.view(np.uint8)
    settled = np.empty(values.size, np.float32)
    kernel().settle(values, base, settled)
    if dtype.name == "F32":
        return settled.view(np.uint8)
    items = dtypes.from_float32(settled, dtype)
    if base_raw is not None:
        keep = (values == base) | np.isnan(base)
        np.copyto(items, dtypes.as_array(base_raw, dtype), where=keep)
    return items.view(np.uint8)
