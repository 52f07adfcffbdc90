"""The dtypes of a safetensors file: their width, their numpy type, and their way to float32 and back.

Relies on numpy, ml_dtypes and the codecs' wire formats. Promises: every dtype of safetensors 0.8 is
known; an unknown name is None here, and its reader says so; conversions are exact upward and round to
nearest even downward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mpstore.codecs import Format
from mpstore.ids import Buffer

Float32Array: TypeAlias = npt.NDArray[np.float32]
AnyArray: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Dtype:
    """One safetensors dtype.

    `bits` is the width of an item; `numpy` None where numpy has no such type (4- and 6-bit floats are
    packed); `is_float` says that a merge computes with it (real floating point of whole bytes with a
    sign); `rank` is the library's order of dtypes, by which it sorts tensors when it writes a file.
    """

    name: str
    bits: int
    numpy: np.dtype[Any] | None
    is_float: bool
    rank: int

    @property
    def form(self) -> Format:
        """The codecs' wire format of this dtype's items."""
        return Format.of(self.name)


# In the order of the safetensors library: it writes tensors by descending rank, then by name.
_TABLE: Final[tuple[tuple[str, int, Any, bool], ...]] = (
    ("BOOL", 8, np.bool_, False),
    ("F4", 4, None, False),
    ("F6_E2M3", 6, None, False),
    ("F6_E3M2", 6, None, False),
    ("U8", 8, np.uint8, False),
    ("I8", 8, np.int8, False),
    ("F8_E5M2", 8, ml_dtypes.float8_e5m2, True),
    ("F8_E4M3", 8, ml_dtypes.float8_e4m3fn, True),
    ("F8_E8M0", 8, ml_dtypes.float8_e8m0fnu, False),
    ("F8_E4M3FNUZ", 8, ml_dtypes.float8_e4m3fnuz, True),
    ("F8_E5M2FNUZ", 8, ml_dtypes.float8_e5m2fnuz, True),
    ("I16", 16, np.int16, False),
    ("U16", 16, np.uint16, False),
    ("F16", 16, np.float16, True),
    ("BF16", 16, ml_dtypes.bfloat16, True),
    ("I32", 32, np.int32, False),
    ("U32", 32, np.uint32, False),
    ("F32", 32, np.float32, True),
    ("C64", 64, np.complex64, False),
    ("F64", 64, np.float64, True),
    ("I64", 64, np.int64, False),
    ("U64", 64, np.uint64, False),
)

DTYPES: Final[dict[str, Dtype]] = {
    name: Dtype(name, bits, None if kind is None else np.dtype(kind), is_float, rank)
    for rank, (name, bits, kind, is_float) in enumerate(_TABLE)
}


def of(name: str) -> Dtype | None:
    """The dtype of that safetensors name, or None."""
    return DTYPES.get(name)


def known(name: str) -> Dtype:
    """The dtype of a name that has been checked before (a header's or a record's); KeyError otherwise."""
    return DTYPES[name]


def of_numpy(dtype: np.dtype[Any]) -> Dtype | None:
    """The safetensors dtype whose numpy type this is, or None."""
    # numpy holds None to equal float64
    return next(
        (entry for entry in DTYPES.values() if entry.numpy is not None and entry.numpy == dtype), None
    )


def tensor_bytes(dtype: Dtype, elements: int) -> int | None:
    """Bytes of so many items; None where packed items do not end on a byte."""
    bits = dtype.bits * elements
    return None if bits % 8 else bits // 8


def as_array(raw: Buffer | AnyArray, dtype: Dtype) -> AnyArray:
    """The items of `raw` as a flat array of the dtype's numpy type (uint8 where it has none); no copy."""
    return np.frombuffer(raw, dtype=np.uint8 if dtype.numpy is None else dtype.numpy)


def to_float32(raw: Buffer | AnyArray, dtype: Dtype) -> Float32Array:
    """Items as float32, shape (n,). Exact but for F64, which is rounded; NaN payloads may change.

    F32 is a view of `raw`; everything else is a new array.
    """
    items = as_array(raw, dtype)
    if dtype.name == "F32":
        return items
    if dtype.name == "BF16":  # a shift; several times faster than the general conversion
        return (items.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return items.astype(np.float32)


def from_float32(values: Float32Array, dtype: Dtype) -> AnyArray:
    """Items of the dtype nearest to float32 `values`, ties to even; shape (n,)."""
    if dtype.numpy is None:
        raise KeyError(dtype.name)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype.numpy)
