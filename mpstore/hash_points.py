"""Where the SHA-256 of a large file stood every so many bytes: so its parts can be checked side by side.

Relies on files and hash_lanes. Promises: derived and deletable. Nothing in it is trusted: a file is whole if
the hash of each part leads from its point to the next one, from the beginning to the recorded digest; where
it does not, the points may be what is wrong, and the file is hashed from its beginning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mpstore import files, hash_lanes
from mpstore.errors import DamagedError, NotFoundError, StorageError
from mpstore.regular_file import read_regular

_ROOM: Final = "sha256-points"
_POINT: Final = 32
_MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class Part:
    """Bytes [start, stop) of a file, whose hash stands at `before` (b"": begins) when they begin, and at
    `after` when they end; b"": then it is the file's."""

    start: int
    stop: int
    before: bytes = b""
    after: bytes = b""


class HashPoints:
    """Those of a repository, `.mp` being its directory."""

    def __init__(self, mp_dir: str) -> None:
        self._mp_dir = mp_dir
        self._room = os.path.join(mp_dir, "cache", _ROOM)
        self._tmp = os.path.join(mp_dir, "tmp")

    def parts(self, sha256: bytes, size: int) -> list[Part]:
        """A file in parts that can be checked by themselves; the whole of it if it is small or not known."""
        step = hash_lanes.POINT_BYTES
        if size <= step:
            return [Part(0, size)]
        try:
            data = read_regular(os.path.join(self._room, sha256.hex()), _MOST_BYTES)
        except (OSError, DamagedError):
            return [Part(0, size)]
        points = [data[at : at + _POINT] for at in range(0, len(data), _POINT)]
        if len(data) != size // step * _POINT:
            return [Part(0, size)]
        starts = range(0, size, step)
        befores, afters = [b"", *points], [*points, b""]
        return [
            Part(start, min(start + step, size), before, after if start + step < size else b"")
            for start, before, after in zip(starts, befores, afters, strict=False)
        ]

    def keep(self, sha256: bytes, points: Sequence[bytes]) -> None:
        """Keep the points of a file, if there are any. Failing to is no error."""
        if not points:
            return
        try:
            files.make_directories(self._room, within=self._mp_dir)
            path = os.path.join(self._room, sha256.hex())
            files.write_whole(path, b"".join(points), self._tmp, durable=False)
        except (NotFoundError, StorageError):
            return
