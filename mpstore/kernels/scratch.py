"""Bytes that a thread keeps from call to call, for kernels to work in: fresh ones cost page faults.

Relies on numpy. Promises: no two threads share any; a name's bytes hold nothing from call to call.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_local = threading.local()


def scratch(name: str, size: int) -> npt.NDArray[np.uint8]:
    """At least `size` bytes, this thread's of that name, uninitialised."""
    rooms: dict[str, npt.NDArray[np.uint8]] = _local.__dict__.setdefault("rooms", {})
    room = rooms.get(name)
    if room is None or room.size < size:
        room = rooms[name] = np.empty(size, np.uint8)
    return room


def segments_in(
    out: npt.NDArray[np.uint8], blocks: Sequence[npt.NDArray[np.uint8]], lengths: npt.NDArray[Any]
) -> list[bytes | None]:
    """Copies of what a kernel wrote to `out`, where a block's segment begins where the blocks before it would
    end; None: its length is below 0, there is none."""
    made: list[bytes | None] = []
    at = 0
    for block, length in zip(blocks, lengths.tolist(), strict=True):
        made.append(out[at : at + length].tobytes() if length >= 0 else None)
        at += block.size
    return made
