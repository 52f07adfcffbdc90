"""What earlier merges made: a map from everything a result depends on to the result, in cache/memo/.

Relies on files, ids and msgpack. Promises: deletable at will; a damaged or foreign file is set aside as if it
were not there (each carries its own hash); an entry is written only after `flush` says that what it names is
durable. Whoever uses an entry still checks that the store has the block.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
from blake3 import blake3

from mpstore import files
from mpstore.errors import DamagedError, NotFoundError, StorageError
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.regular_file import read_regular

_MAGIC: Final = b"mpMM\x01\x00\x00\x00"
_MOST_FILE_BYTES: Final = 256 << 20
_MOST_FILES: Final = 32
_KEPT_BYTES: Final = 128 << 20
VERSION: Final = 3
"""Counts up whenever the same inputs may give other bits: old entries are then never found."""


def key_of(*parts: Any) -> ObjectId:
    """The key of a result: a hash over everything it depends on (bytes, numbers, text, None, sequences)."""
    data: bytes = msgpack.packb([VERSION, parts], use_bin_type=True)
    return blake3(data, derive_key_context="mpstore 2026-11-22 memo").digest()


class Memo:
    """The memo of one repository during one merge. `get` from any thread; the rest from one."""

    def __init__(self, directory: Path, tmp_dir: Path) -> None:
        self._directory = directory
        self._tmp_dir = tmp_dir
        self._known: dict[bytes, bytes] = {}
        self._new: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        for path in self._paths():
            self._known.update(_load(path))

    def _paths(self) -> list[Path]:
        """Files, oldest first."""
        try:
            found = [path for path in self._directory.iterdir() if path.suffix == ".memo"]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda path: (_modified_ns(path), path.name))

    @property
    def empty(self) -> bool:
        """Whether nothing can be found: then nobody needs a key to look."""
        return not self._known and not self._new

    def get(self, key: ObjectId) -> bytes | None:
        """The value of a key, or None."""
        value = self._new.get(key)
        return self._known.get(key) if value is None else value

    def put(self, key: ObjectId, value: bytes) -> None:
        """Remember a value; it reaches the disk with the next `flush`."""
        if self._known.get(key) != value:
            self._new[key] = value

    def flush(self) -> None:
        """Write what is new. Call after what the values name is durable. A full disk is no error here."""
        if not self._new:
            return
        with contextlib.suppress(NotFoundError, StorageError):
            files.make_directories(self._directory, within=self._tmp_dir.parent)
            data = _dump(self._new.items())
            path = self._directory / f"{blake3(data).hexdigest(16)}.memo"
            files.write_whole(path, data, self._tmp_dir, durable=False)
            self._tidy()
        self._known.update(self._new)
        self._new = {}

    def _tidy(self) -> None:
        """Few files, of bounded size together: the newest survive, many become one."""
        paths = self._paths()
        if len(paths) <= _MOST_FILES and sum(map(_size, paths)) <= _KEPT_BYTES:
            return
        kept: dict[bytes, bytes] = {}
        room = _KEPT_BYTES // 2
        for path in reversed(paths):
            room -= _size(path)
            if room >= 0:
                kept = _load(path) | kept
        data = _dump(kept.items())
        whole = self._directory / f"{blake3(data).hexdigest(16)}.memo"
        files.write_whole(whole, data, self._tmp_dir, durable=False)
        for path in paths:
            if path != whole:
                files.remove(path)


def _modified_ns(path: Path) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0


def _dump(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    body: bytes = msgpack.packb(dict(items), use_bin_type=True)
    return _MAGIC + blake3(body).digest() + body


def _load(path: Path) -> dict[bytes, bytes]:
    """The entries of a file; none where it is not a whole memo file."""
    try:
        data = read_regular(path, _MOST_FILE_BYTES)
    except (OSError, DamagedError):
        return {}
    head, body = data[: len(_MAGIC) + ID_BYTES], data[len(_MAGIC) + ID_BYTES :]
    if head != _MAGIC + blake3(body).digest():
        return {}
    with contextlib.suppress(ValueError, msgpack.UnpackException):
        found = msgpack.unpackb(body, raw=True)
        if isinstance(found, dict):
            return found
    return {}
