"""What the Python interface answers with, where a room below has no value of its own for it.

Relies on records. Promises: frozen plain values.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpstore.ids import ObjectId
from mpstore.records.model import FileEntry


@dataclass(frozen=True)
class NamedCommit:
    """A branch or tag and the commit it is at."""

    name: str
    commit: ObjectId
    message: str
    time_ns: int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a revision; raw_bytes without any header."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    blocks: int
    raw_bytes: int


@dataclass(frozen=True)
class Listing:
    """Files and tensors of a revision."""

    commit: ObjectId
    files: tuple[FileEntry, ...]
    tensors: tuple[TensorInfo, ...]
