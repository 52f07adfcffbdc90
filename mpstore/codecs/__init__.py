"""Floor 1: bytes of a block to fewer bytes and back. `encode` and `decode` are all that other rooms need.

Relies on kernels. Promises: see registry. The bytes of each codec are in docs/codecs.md.
"""

from mpstore.codecs.formats import Format, Layout, Level
from mpstore.codecs.registry import decode, encode, name, needs_base
from mpstore.codecs.segments import Buffer, Encoded

__all__ = ["Buffer", "Encoded", "Format", "Layout", "Level", "decode", "encode", "name", "needs_base"]
