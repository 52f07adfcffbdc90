"""SHA-256 as hashlib has it: what `sha256_native` is compared with.

Relies on hashlib. Promises: FIPS 180-4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from mpstore.ids import Buffer


class Sha256(Protocol):
    """A hash under way, as hashlib's."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


def sha256() -> Sha256:
    """A hash of nothing yet."""
    return hashlib.sha256()


def lanes() -> int:
    """How many hashes go on in about the time of two."""
    return 1


def together(hashes: Sequence[Sha256], pieces: Sequence[Buffer]) -> None:
    """Go on with each hash by its piece."""
    for hash, piece in zip(hashes, pieces, strict=True):
        hash.update(piece)
