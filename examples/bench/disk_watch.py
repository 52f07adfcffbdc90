"""Peaks of what a running command keeps on disk beside the store: looked at every few milliseconds.

Relies on the standard library. Promises: only looks; a file that comes and goes between two looks is missed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_LOOK_SECONDS = 0.005
_PACK_MAGIC = b"mpPK"


class DiskWatch:
    """Watches directories while it is entered; `repository` is the .mp among them.

    `extra_bytes`: peak of all files that are neither in objects/packs nor a pack under construction (which is
    renamed into objects/packs): copies, caches, journals, whatever else. `staged_bytes`: peak of packs under
    construction. `over_final_bytes`: peak of everything, less what is there in the end.
    """

    def __init__(self, repository: Path, others: Sequence[Path]) -> None:
        self._packs = os.fspath(repository / "objects" / "packs")
        self._staging = os.fspath(repository / "tmp")
        self._roots = [os.fspath(path) for path in (repository, *others)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.extra_bytes = self.staged_bytes = self.over_final_bytes = self.looks = 0
        self._peak = 0

    def __enter__(self) -> DiskWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.over_final_bytes = self._peak - self._look()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> int:
        stored = staged = extra = 0
        seen: dict[tuple[int, int], tuple[str, int]] = {}
        for root in self._roots:
            for path, size, identity in _files(root):
                if (
                    path.startswith(self._packs) or identity not in seen
                ):  # a file met in both places is a pack
                    seen[identity] = (path, size)
        for path, size in seen.values():
            if path.startswith(self._packs):
                stored += size
            elif path.startswith(self._staging) and _is_pack(path):
                staged += size
            else:
                extra += size
        self.looks += 1
        self.extra_bytes = max(self.extra_bytes, extra)
        self.staged_bytes = max(self.staged_bytes, staged)
        self._peak = max(self._peak, stored + staged + extra)
        return stored + staged + extra


def _files(root: str) -> list[tuple[str, int, tuple[int, int]]]:
    found = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            try:
                stat = os.lstat(path)
            except FileNotFoundError:
                continue
            found.append((path, stat.st_size, (stat.st_dev, stat.st_ino)))
    return found


def _is_pack(path: str) -> bool:
    """A file that went away, or that has no byte yet, was one just as well: it counts for nothing much."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (_PACK_MAGIC, b"")
    except FileNotFoundError:
        return True
