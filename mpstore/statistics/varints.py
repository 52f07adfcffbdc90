"""Small non-negative integers in few bytes: LEB128, a whole array at a time.

Relies on numpy. Promises: `decode(encode(a), a.size)` is `a`; anything that is not exactly `count` numbers
below 2^63 is None.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_MOST_BYTES: Final = 9


def encode(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Seven bits a byte, low bits first, the top bit set on all but a number's last byte.

    >>> encode(np.array([1, 127, 128, 300])).tolist()
    [1, 127, 128, 1, 172, 2]
    """
    lengths = np.ones(values.size, np.int64)
    for more in range(1, _MOST_BYTES):
        lengths += values >= (1 << (7 * more))
    starts = np.cumsum(lengths) - lengths
    out = np.zeros(int(lengths.sum()), np.uint8)
    for k in range(int(lengths.max(initial=0))):
        chosen = lengths > k
        low = (values[chosen] >> (7 * k)) & 0x7F
        out[starts[chosen] + k] = low | np.where(lengths[chosen] > k + 1, 0x80, 0)
    return out


def decode(data: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int64] | None:
    """Exactly `count` numbers that use up `data`, int64; None if that is not what it holds."""
    last = np.flatnonzero(data < 0x80)
    if last.size != count or (data.size and (count == 0 or int(last[-1]) != data.size - 1)):
        return None
    if count == 0:
        return np.zeros(0, np.int64)
    starts = np.concatenate([[0], last[:-1] + 1])
    if int((last - starts).max()) >= _MOST_BYTES:
        return None
    place = np.arange(data.size) - np.repeat(starts, last - starts + 1)
    digits: npt.NDArray[np.int64] = (data & 0x7F).astype(np.int64) << (7 * place)
    return np.add.reduceat(digits, starts)
