"""Arrays of a record, in and out.

Relies on numpy and records. Promises: what is taken out has the dtype and the length that it must have, or
DamagedError says which column has not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.errors import DamagedError
from mpstore.records.model import Columns


def array(values: npt.NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    """An array as a record has it."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.dtype.str, little.shape, little.tobytes()


class Reader:
    """Takes arrays out of a record, each with the dtype and length that it must have."""

    def __init__(self, record: Columns) -> None:
        self._record = record

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._record.arrays

    def take(self, name: str, dtype: str, length: int | None, width: int | None = None) -> npt.NDArray[Any]:
        kind, shape, data = self._record.arrays.get(name, ("", (), b""))
        expected_axes = 1 if width is None else 2
        ok = kind == dtype and len(shape) == expected_axes and (width is None or shape[1] == width)
        ok = ok and (length is None or shape[0] == length)
        if not ok or len(data) != int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize:
            raise damaged(f"column {name} has dtype {kind!r}, shape {shape}, {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape)


def damaged(what: str) -> DamagedError:
    """A record that contradicts itself."""
    return DamagedError(f"statistics record: {what}", hint="make it anew with `mp analyze`")


def key_list(text: str) -> tuple[str, ...]:
    """Tensor keys, one a line: records keep lists short."""
    return tuple(text.split("\n")) if text else ()
