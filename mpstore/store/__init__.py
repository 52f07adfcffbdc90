"""Floor 2: objects by id in packs of frames. `ObjectStore` reads, `ObjectWriter` writes.

Relies on codecs and files. Promises: what is read hashes to its id; what is published is durable before
anything can name it; nothing is modified after it is published.
"""

from mpstore.store.decoding import decode_leaning, leaning_kind
from mpstore.store.frame import NO_BASE, Frame, Piece
from mpstore.store.locations import Locations
from mpstore.store.lookup import Found
from mpstore.store.objects import ObjectStore
from mpstore.store.pack import ReadMeter, set_read_observer
from mpstore.store.preparing import Hint, Prepared
from mpstore.store.sessions import SessionInfo, read_sessions
from mpstore.store.writer import ObjectWriter, WriteSummary

__all__ = [
    "NO_BASE",
    "Found",
    "Frame",
    "Hint",
    "Locations",
    "ObjectStore",
    "ObjectWriter",
    "Piece",
    "Prepared",
    "ReadMeter",
    "SessionInfo",
    "WriteSummary",
    "decode_leaning",
    "leaning_kind",
    "read_sessions",
    "set_read_observer",
]
