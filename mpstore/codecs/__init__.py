"""Floor 1: bytes of a block to fewer bytes and back. `encode_many` and `decode_many` are all that other
rooms need; `encode` and `decode` do one block.

Relies on kernels. Promises: see the modules. The bytes of each codec are in docs/codecs.md.
"""

from typing import TYPE_CHECKING

from mpstore import later

if TYPE_CHECKING:
    from mpstore.codecs.choice import encode, encode_many
    from mpstore.codecs.codes import name, needs_base
    from mpstore.codecs.decoding import Block, decode, decode_many, hold
    from mpstore.codecs.formats import Format, Layout, Level
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
    "hold",
    "name",
    "needs_base",
]

__getattr__, __dir__ = later.names(
    __name__,
    {
        "mpstore.codecs.choice": ("encode", "encode_many"),
        "mpstore.codecs.codes": ("name", "needs_base"),
        "mpstore.codecs.decoding": ("Block", "decode", "decode_many", "hold"),
        "mpstore.codecs.formats": ("Format", "Layout", "Level"),
        "mpstore.codecs.segments": ("Buffer", "Encoded"),
    },
)
