"""Floor 6: checkpoints into the store. `add` takes a directory, `CheckpointWriter` any streams.

Relies on repository, checkpoint_dir and statistics. Promises: see the modules.
"""

from mpstore.ingest.add import AddResult, Said, Source, add, add_all
from mpstore.ingest.base_search import PERHAPS_SHARED, FoundBase, find_base
from mpstore.ingest.checkpoint_writer import CheckpointWriter, Committed
from mpstore.ingest.looking import check_common, look, shapes_of
from mpstore.ingest.reading import Stream

__all__ = [
    "PERHAPS_SHARED",
    "AddResult",
    "CheckpointWriter",
    "Committed",
    "FoundBase",
    "Said",
    "Source",
    "Stream",
    "add",
    "add_all",
    "check_common",
    "find_base",
    "look",
    "shapes_of",
]
