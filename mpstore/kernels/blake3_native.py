"""`blake3_numpy` compiled: all in one call, so that the interpreter lock is let go of once.

Relies on kernels.native. Promises: the digests of the package, which is a tenth faster for one large message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mpstore.kernels import native
from mpstore.kernels.scratch import scratch

_DIGEST_BYTES: Final = 32


def digests(messages: Sequence[Any]) -> list[bytes]:
    """As the reference; of arrays of bytes."""
    library = native.library()
    largest = max((message.nbytes for message in messages), default=0)
    out = bytearray(_DIGEST_BYTES * len(messages))
    library.blake3_hash_many(messages, scratch("hash", library.blake3_room(largest)), out)
    return [bytes(out[at : at + _DIGEST_BYTES]) for at in range(0, len(out), _DIGEST_BYTES)]
