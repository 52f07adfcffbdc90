"""Where things of the object store lie, and what they are called.

Relies on files. Promises: names only; nothing is opened here.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Final

from mpstore import files
from mpstore.ids import ID_BYTES, ObjectId

PACK_SUFFIX: Final = ".pack"
INDEX_SUFFIX: Final = ".idx"
CACHE_NAME: Final = "packs.idx"


@dataclass(frozen=True)
class Layout:
    """The directories of the object store inside a repository's `.mp`."""

    root: str

    @property
    def packs(self) -> str:
        return os.path.join(self.root, "objects", "packs")

    @property
    def trash(self) -> str:
        return os.path.join(self.root, "objects", "trash")

    @property
    def quarantine(self) -> str:
        return os.path.join(self.root, "objects", "quarantine")

    @property
    def sessions(self) -> str:
        return os.path.join(self.root, "sessions")

    @property
    def tmp(self) -> str:
        return os.path.join(self.root, "tmp")

    @property
    def cache(self) -> str:
        return os.path.join(self.root, "cache")

    def create(self) -> None:
        """Make all of it."""
        files.make_directories(self.root)
        self.complete()

    def complete(self) -> None:
        """Make what is missing in it. NotFoundError: all of it is gone."""
        files.make_directories(self.packs, within=self.root)
        for path in (self.trash, self.sessions, self.tmp, self.cache):
            if not os.path.isdir(path):  # else it is empty as a rule, and a crash may take it
                files.make_directories(path, within=self.root)


def pack_path(directory: str, pack_id: ObjectId) -> str:
    """Where a pack lies in a directory."""
    return os.path.join(directory, pack_name(pack_id))


def index_path(directory: str, pack_id: ObjectId) -> str:
    """Where a pack's index lies in a directory."""
    return os.path.join(directory, pack_id.hex() + INDEX_SUFFIX)


def pack_ids(directory: str) -> set[ObjectId]:
    """The packs that lie in a directory."""
    out = set()
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            stem, suffix = os.path.splitext(name)
            if suffix == PACK_SUFFIX and len(stem) == 2 * ID_BYTES:
                with contextlib.suppress(ValueError):
                    out.add(bytes.fromhex(stem))
    return out


def pack_name(pack_id: ObjectId) -> str:
    """The file's name."""
    return pack_id.hex() + PACK_SUFFIX


def pack_id_of(file_name: str) -> ObjectId:
    """The pack's id by its file's name."""
    return bytes.fromhex(file_name.removesuffix(PACK_SUFFIX))
