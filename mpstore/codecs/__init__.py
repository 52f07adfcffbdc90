"""Floor 1: bytes of a block to fewer bytes and back. `encode_many` and `decode_many` are all that other
rooms need; `encode` and `decode` do one block.

Relies on kernels. Promises: see registry. The bytes of each codec are in docs/codecs.md.
"""

from mpstore.codecs.formats import Format, Layout, Level
from mpstore.codecs.registry import (
    Block,
    decode,
    decode_many,
    encode,
    encode_many,
    name,
    needs_base,
    same,
)
from mpstore.codecs.segments import Buffer, Encoded

__all__ = [
    "Block",
    "Buffer",
    "Encoded",
    "Format",
    "Layout",
    "Level",
    "decode",
    "decode_many",
    "encode",
    "encode_many",
    "name",
    "needs_base",
    "same",
]
