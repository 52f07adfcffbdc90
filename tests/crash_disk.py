"""What a disk may hold after a power cut: everything that was synced, and any part of what was not.

Relies on the observer of `mpstore.files`. Promises: names and contents are lost independently, as a file
system may: a name without `fsync_dir` may be there or not, content without `fsync` may be old, whole or cut.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mpstore import files
from mpstore.files import Operation


@dataclass(eq=False)
class File:
    """Content as processes see it, and as it is safe."""

    now: bytearray = field(default_factory=bytearray)
    safe: bytes = b""


@dataclass(eq=False)
class Directory:
    """Entries as processes see them, and as they are safe."""

    now: dict[str, File | Directory] = field(default_factory=dict)
    safe: dict[str, File | Directory] = field(default_factory=dict)


class CrashDisk:
    """A model of the tree below `root`, fed with the operations that were recorded there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = _load(root)
        self.operations: list[Operation] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Keep every operation made meanwhile. Nothing else may watch."""

        def keep(operation: Operation) -> None:
            data = None if operation.data is None else memoryview(bytes(operation.data))
            path, target = operation.path, operation.target
            self.operations.append(Operation(operation.kind, path, target, operation.offset, data))

        files.set_observer(keep)
        try:
            yield
        finally:
            files.set_observer(None)

    def replay(self) -> Iterator[int]:
        """Apply the operations one after the other; yields how many are applied, 0 first."""
        yield 0
        for count, operation in enumerate(self.operations, 1):
            self._apply(operation)
            yield count

    def _apply(self, operation: Operation) -> None:
        parent, name = self._parent(operation.path)
        match operation.kind:
            case "mkdir":
                parent.now.setdefault(name, Directory())
            case "create":
                parent.now.setdefault(name, File())
            case "write":
                file, data = parent.now[name], operation.data or b""
                assert isinstance(file, File)
                file.now[len(file.now) :] = bytes(max(0, operation.offset - len(file.now)))
                file.now[operation.offset : operation.offset + len(data)] = data
            case "fsync":
                file = parent.now[name]
                assert isinstance(file, File)
                file.safe = bytes(file.now)
            case "fsync_dir":
                directory = self.top if not name else parent.now[name]
                assert isinstance(directory, Directory)
                directory.safe = dict(directory.now)
            case "rename" | "link" if name in parent.now:
                other, new_name = self._parent(operation.target)
                if operation.kind == "rename":
                    other.now[new_name] = parent.now.pop(name)
                else:
                    other.now.setdefault(new_name, parent.now[name])
            case "unlink" if isinstance(parent.now.get(name), File):
                del parent.now[name]
            case "rmdir":
                entry = parent.now.get(name)
                if isinstance(entry, Directory) and not entry.now:
                    del parent.now[name]

    def _parent(self, path: str) -> tuple[Directory, str]:
        parts = Path(path).relative_to(self.root).parts
        directory = self.top
        for part in parts[:-1]:
            entry = directory.now[part]
            assert isinstance(entry, Directory)
            directory = entry
        return directory, parts[-1] if parts else ""

    def write_out(self, target: Path, seed: int | None) -> None:
        """The tree after a power cut now. seed None: all that was not synced is lost; otherwise chance
        decides for each name and each content."""
        chance = random.Random(seed)
        _write(self.top, target, chance if seed is not None else None)


def _load(path: Path) -> Directory:
    """What lies there; it is safe already."""
    directory = Directory()
    for entry in os.scandir(path):
        if entry.is_dir():
            directory.now[entry.name] = _load(Path(entry.path))
        else:
            content = Path(entry.path).read_bytes()
            directory.now[entry.name] = File(bytearray(content), content)
    directory.safe = dict(directory.now)
    return directory


def _write(directory: Directory, target: Path, chance: random.Random | None) -> None:
    target.mkdir()
    for name in sorted({*directory.now, *directory.safe}):
        entry = directory.safe.get(name)
        if chance is not None and chance.random() < 0.5:
            entry = directory.now.get(name)
        if isinstance(entry, Directory):
            _write(entry, target / name, chance)
        elif entry is not None:
            (target / name).write_bytes(_content(entry, chance))


def _content(file: File, chance: random.Random | None) -> bytes:
    if chance is None or bytes(file.now) == file.safe:
        return file.safe
    whole = bytes(file.now)
    return chance.choice([file.safe, whole, whole[: chance.randrange(len(whole) + 1)], bytes(len(whole))])
