"""What differs between two checkpoints, tensor by tensor and file by file.

Relies on `sides` (where content comes from) and `measure` (the figures). Promises: equal blocks are never
read for revisions; each side may be a revision of the store or a directory.
"""

from __future__ import annotations

from mpstore.diff.compare import Diff, FileDiff, TensorDiff, compare
from mpstore.diff.sides import Directory, Side, Stored, TensorShape

__all__ = ["Diff", "Directory", "FileDiff", "Side", "Stored", "TensorDiff", "TensorShape", "compare"]
