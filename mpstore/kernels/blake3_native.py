"""`blake3_numpy` compiled: all in one call, so that the interpreter lock is let go of once.

Relies on kernels.native. Promises: the ids of the reference, which is a tenth faster for one large block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpstore.ids import ID_BYTES, ObjectId
from mpstore.kernels import native
from mpstore.kernels.scratch import scratch


def block_ids(blocks: Sequence[Any]) -> list[ObjectId]:
    """As the reference; of arrays of bytes."""
    library = native.library()
    largest = max((block.nbytes for block in blocks), default=0)
    out = bytearray(ID_BYTES * len(blocks))
    library.blake3_hash_many(blocks, scratch("hash", library.blake3_room(largest)), out)
    return [bytes(out[at : at + ID_BYTES]) for at in range(0, len(out), ID_BYTES)]
