"""Which files are known to be unchanged since they were added, told by their stat alone.

Relies on files and msgpack. Promises: derived and deletable; what is odd in it is forgotten, not an error; a
file that may have been written to in the very tick in which it was read is never taken for unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from mpstore import files
from mpstore.checkpoint_dir import SourceFile
from mpstore.errors import DamagedError, NotFoundError, StorageError
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.regular_file import read_regular

_NAME: Final = "stat-cache"
_VERSION: Final = 1
_MOST_ENTRIES: Final = 20_000
_MOST_BYTES: Final = 64 << 20
_FINE_TICK_NS: Final = 50_000_000
_COARSE_TICK_NS: Final = 2_000_000_000


def _stamp(file: SourceFile) -> list[int]:
    return [file.size, file.mtime_ns, file.ctime_ns, file.inode, file.device]


def _settled(file: SourceFile, scanned_ns: int) -> bool:
    """Whether a later change must show: the file was older, at the scan, than a tick of its clock.

    A file system whose times are whole seconds has ticks of up to two.
    """
    latest = max(file.mtime_ns, file.ctime_ns)
    tick = _COARSE_TICK_NS if file.mtime_ns % 1_000_000_000 == 0 else _FINE_TICK_NS
    return latest + tick < scanned_ns


class StatCache:
    """Source path -> stat, commit and path in the commit. Two writers at once: the later one wins."""

    def __init__(self, mp_dir: str) -> None:
        self._mp_dir = mp_dir
        self._path = os.path.join(mp_dir, "cache", _NAME)
        self._tmp = os.path.join(mp_dir, "tmp")
        self._entries = self._load()

    def _load(self) -> dict[str, list[Any]]:
        try:
            data = read_regular(self._path, _MOST_BYTES + 1)
            version, entries = msgpack.unpackb(data, strict_map_key=True)
        except (OSError, DamagedError, ValueError, TypeError, msgpack.UnpackException):
            return {}
        if version != _VERSION or not isinstance(entries, dict):
            return {}
        return {key: entry for key, entry in entries.items() if _well_formed(key, entry)}

    def find(self, file: SourceFile) -> ObjectId | None:
        """The commit that has this file, under the path it has now; None: unknown, or changed since."""
        entry = self._entries.get(file.source)
        if entry is None or entry[0] != _stamp(file) or entry[1] != file.path:
            return None
        commit: ObjectId = entry[2]
        return commit

    def remember(self, added: Iterable[SourceFile], commit: ObjectId, scanned_ns: int) -> None:
        """The files are as they were at `scanned_ns`, and in the commit. Failing to write is no error."""
        for file in added:
            self._entries.pop(file.source, None)
            if _settled(file, scanned_ns) and _is_unicode(file.source):
                self._entries[file.source] = [_stamp(file), file.path, commit]
        for source in list(self._entries)[: max(0, len(self._entries) - _MOST_ENTRIES)]:
            del self._entries[source]
        try:
            files.make_directories(os.path.dirname(self._path), within=self._mp_dir)
            data = msgpack.packb([_VERSION, self._entries])
            files.write_whole(self._path, data, self._tmp, durable=False)
        except (NotFoundError, StorageError):
            return


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # a file system's names are bytes
        return False
    return True


def _well_formed(key: Any, entry: Any) -> bool:
    if not isinstance(key, str) or not isinstance(entry, list) or len(entry) != 3:
        return False
    stamp, path, commit = entry
    return (
        isinstance(stamp, list)
        and isinstance(path, str)
        and isinstance(commit, bytes)
        and len(commit) == ID_BYTES
    )
