"""A disk that forgets: replays recorded operations and says what a crash would leave.

Promises: what was not fsynced may be lost, file content and directory entries each on their own; what was
fsynced stays. Content is durable by "fsync" of the file, a name by "fsync_dir" of its directory.

Every name and every file keeps the list of its values since the last sync; a crash picks one value of each:
the oldest (`strict`: nothing unsynced survives), the newest name with the oldest content (`names`: metadata
ran ahead of data), the newest of all (`everything`), or any (a random generator).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mpstore import processes
from mpstore.files import Operation

WAYS = ("strict", "names", "everything", "random")
DIRECTORY = "directory"
Entry = "Inode | str | None"  # a file, DIRECTORY, or nothing


class Inode:
    """A file's contents since the last fsync, oldest first; names point at it."""

    def __init__(self, content: bytes = b"") -> None:
        self.versions: list[bytes] = [content]

    @property
    def content(self) -> bytes:
        return self.versions[-1]

    def write(self, offset: int, data: bytes) -> None:
        old = self.content
        padded = old + b"\0" * max(0, offset - len(old))
        self.versions.append(padded[:offset] + data + padded[offset + len(data) :])

    def sync(self) -> None:
        self.versions = [self.content]


class CrashDisk:
    """The tree below `root`, in a durable and a current version."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.names: dict[str, list[Inode | str | None]] = {}
        for directory, directories, files in os.walk(root):
            for name in directories:
                self.names[os.path.join(directory, name)] = [DIRECTORY]
            for name in files:
                path = os.path.join(directory, name)
                self.names[path] = [Inode(Path(path).read_bytes())]

    def apply(self, operation: Operation, data: bytes) -> None:
        """Carry out one operation as announced; what the real one would refuse changes nothing."""
        path, target = os.path.abspath(operation.path), os.path.abspath(operation.target or "/")
        if not path.startswith(self.root):
            return
        getattr(self, f"_{operation.kind}")(path, target, operation.offset, data)

    def _now(self, path: str) -> Inode | str | None:
        return self.names.get(path, [None])[-1]

    def _set(self, path: str, value: Inode | str | None) -> None:
        self.names.setdefault(path, [None]).append(value)

    def _mkdir(self, path: str, *_: object) -> None:
        if self._now(path) is None:
            self._set(path, DIRECTORY)

    def _create(self, path: str, *_: object) -> None:
        if self._now(path) is None:
            self._set(path, Inode())

    def _write(self, path: str, _: str, offset: int, data: bytes) -> None:
        inode = self._now(path)
        assert isinstance(inode, Inode), path
        inode.write(offset, data)

    def _fsync(self, path: str, *_: object) -> None:
        inode = self._now(path)
        assert isinstance(inode, Inode), path
        inode.sync()

    def _fsync_dir(self, path: str, *_: object) -> None:
        for name, values in self.names.items():
            if os.path.dirname(name) == path:
                del values[:-1]

    def _rename(self, path: str, target: str, *_: object) -> None:
        moved = self._now(path)
        if moved is not None:
            self._set(target, moved)
            self._set(path, None)

    def _link(self, path: str, target: str, *_: object) -> None:
        if self._now(target) is None:
            self._set(target, self._now(path))

    def _unlink(self, path: str, *_: object) -> None:
        if self._now(path) is not None:
            self._set(path, None)

    def _rmdir(self, path: str, *_: object) -> None:
        inside = any(os.path.dirname(name) == path and self._now(name) is not None for name in self.names)
        if self._now(path) is not None and not inside:
            self._set(path, None)

    def crash(self, destination: Path, way: str, generator: random.Random) -> None:
        """Write what is left to `destination`, as another boot would find it."""
        shutil.rmtree(destination, ignore_errors=True)
        destination.mkdir(parents=True)
        contents: dict[int, bytes] = {}
        for path in sorted(self.names):
            value = _pick(self.names[path], "everything" if way == "names" else way, generator)
            place = destination / _rebooted(os.path.relpath(path, self.root))
            if value is None or not place.parent.is_dir():
                continue
            if isinstance(value, Inode):
                kept = contents.setdefault(id(value), _pick(value.versions, way, generator))
                place.write_bytes(kept)
            else:
                place.mkdir()


def _pick(values: list, way: str, generator: random.Random):  # type: ignore[type-arg, no-untyped-def]
    if way in ("strict", "names"):
        return values[0]
    return values[-1] if way == "everything" else generator.choice(values)


def _rebooted(path: str) -> str:
    """Names that carry this process's token carry that of an earlier boot after the crash."""
    here = processes.current()
    return path.replace(here.token, f"{here.pid:x}.{here.started}.00000000.{here.host}")


def crash_everywhere(
    disk: CrashDisk,
    operations: Sequence[tuple[Operation, bytes]],
    left: Path,
    wanted: Callable[[int, int], bool],
    check: Callable[[int], None],
) -> int:
    """Crash after each number of operations in each of WAYS, where `wanted` says so; `check` looks at what is
    `left`. How many crashes there were."""
    generator = random.Random(5)
    crashes = 0
    for cut in range(len(operations) + 1):
        for number, way in enumerate(WAYS):
            if wanted(cut, number):
                disk.crash(left, way, generator)
                try:
                    check(cut)
                except BaseException as error:
                    last = operations[cut - 1][0] if cut else None
                    error.add_note(f"crash after operation {cut} ({last}), {way}")
                    raise
                crashes += 1
        if cut < len(operations):
            disk.apply(*operations[cut])
    shutil.rmtree(left, ignore_errors=True)
    return crashes
