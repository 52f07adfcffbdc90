"""Content ids: BLAKE3-256 of decoded bytes, with blocks and records in separate hash domains.

Relies on blake3. Promises: an id is 32 bytes, the same on every machine, and no block's id can be
the id of a record (records are hashed with a derived key per kind).
"""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

from blake3 import blake3

ObjectId: TypeAlias = bytes
Buffer: TypeAlias = bytes | bytearray | memoryview

ID_BYTES: Final = 32
_RECORD_CONTEXT: Final = "mpstore 2026-11-22 record "


def block_id(data: Buffer) -> ObjectId:
    """Id of a block: BLAKE3-256 of its decoded bytes (plain mode)."""
    return blake3(data).digest()


def record_id(kind: str, data: Buffer) -> ObjectId:
    """Id of a record: BLAKE3-256 of its encoded bytes, key derived from its kind."""
    return _hasher(kind).copy().update(data).digest()


@cache
def _hasher(kind: str) -> blake3:
    """Of records of a kind, before their first byte: deriving the key takes as long as hashing a record."""
    return blake3(derive_key_context=_RECORD_CONTEXT + kind)


def to_hex(object_id: ObjectId, length: int = 64) -> str:
    """The id in hex, abbreviated to `length` digits."""
    return object_id.hex()[:length]


def short(object_id: ObjectId) -> str:
    """The ten digits that people read."""
    return object_id.hex()[:10]
