"""What both rANS codecs write: probability tables as bits, then 16-bit words; and the way back, with checks.

Relies on numpy and the side of codec_rans that it is given. Promises: nothing here trusts a length or a code
that it has not compared with what is there; None where they do not fit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mpstore.kernels.codec_rans_numpy import SLACK
from mpstore.kernels.rans_tables import TABLE_BYTES

_LANES: Final = (4, 32)
_MANY_FROM_ELEMENTS: Final = 8192  # from here on, 28 more states of 4 bytes do not show


def lanes_for(elements: int) -> int:
    """How many states an encoder interleaves."""
    return _LANES[elements >= _MANY_FROM_ELEMENTS]


def tables_of(counts: npt.NDArray[Any], loops: Any) -> tuple[Any, npt.NDArray[np.uint32]]:
    """Counts (contexts, symbols) to the bytes of their tables, and the frequencies these bytes stand for."""
    codes = np.empty(counts.shape, np.uint8)
    loops.choose_codes(counts, codes)
    written = np.zeros(TABLE_BYTES * len(codes), np.uint8)
    bits = loops.write_tables(codes, written)
    frequency = np.zeros(codes.shape, np.uint32)
    loops.frequencies(codes, frequency)
    return written[: (bits + 7) // 8], frequency


def read(
    data: npt.NDArray[np.uint8], shape: tuple[int, int], lanes: int, loops: Any
) -> tuple[Any, Any, int] | None:
    """Tables of `shape` (contexts, symbols) and the words after them: frequencies, words with SLACK, their
    number."""
    if lanes not in _LANES:
        return None
    codes = np.zeros(shape, np.uint8)
    bits = loops.read_tables(data[: shape[0] * TABLE_BYTES], codes)
    body = data[(bits + 7) // 8 :]
    if bits < 0 or body.size % 2 or body.size < 4 * lanes:
        return None
    words = np.zeros(body.size // 2 + SLACK, np.uint16)
    words.view(np.uint8)[: body.size] = body
    frequency = np.zeros(shape, np.uint32)
    loops.frequencies(codes, frequency)
    return frequency, words, body.size // 2
