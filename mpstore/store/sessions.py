"""Sessions: what running writers lean on, so that gc can tell without locks or clocks.

Relies on files and processes. Promises: a pin is on disk before `pin_*` returns; a session is swept only when
its process is provably dead. The order "pin first, look second" is the caller's part. See docs/format.md.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mpstore import files, processes
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.regular_file import read_regular

SUFFIX: Final = ".session"
_numbers = itertools.count(1)


class Session:
    """This writer's own session file. Any thread may pin."""

    def __init__(self, directory: str, label: str) -> None:
        identity = processes.current()
        self.path = os.path.join(directory, f"{identity.token}-{next(_numbers)}{SUFFIX}")
        self._lock = threading.Lock()
        self._packs: set[ObjectId] = set()
        self._commits: set[ObjectId] = set()
        self._file = files.AppendedFile(self.path)
        about = {
            "label": label,
            "host": processes.host_name(),
            "pid": identity.pid,
            "begun_ns": time.time_ns(),
        }
        try:
            self._file.append(json.dumps(about).encode() + b"\n")
        except BaseException:
            self.close()
            raise

    def pin_pack(self, pack: ObjectId) -> None:
        """Have gc keep the pack and what its deltas lean on."""
        self._pin("pack", pack, self._packs)

    def pin_commit(self, commit: ObjectId) -> None:
        """Have gc keep all that the commit reaches."""
        self._pin("commit", commit, self._commits)

    def _pin(self, what: str, object_id: ObjectId, known: set[ObjectId]) -> None:
        with self._lock:
            if object_id not in known:
                # The newline in front ends a line that a full disk may have cut off.
                self._file.append(f"\n{what} {object_id.hex()}\n".encode())
                known.add(object_id)

    def registered(self) -> bool:
        """Whether gc can still see this session."""
        return os.path.exists(self.path)

    def close(self) -> None:
        """Unregister: nothing is pinned any more."""
        self._file.close()
        files.remove(self.path)


@dataclass(frozen=True)
class SessionInfo:
    """A session as gc and people see it. `dead`: its process has provably ended."""

    path: str
    label: str
    host: str
    pid: int
    begun_ns: int
    packs: frozenset[ObjectId]
    commits: frozenset[ObjectId]
    dead: bool


def read_sessions(directory: str) -> Iterator[SessionInfo]:
    """Every registered session. One that goes away meanwhile is not there; what is half-written counts as
    not pinned yet."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for name in names:
        if not name.endswith(SUFFIX):
            continue
        path = os.path.join(directory, name)
        with contextlib.suppress(FileNotFoundError):
            yield _parse(path, read_regular(path))


def sweep_sessions(directory: str) -> int:
    """Remove the sessions of processes that have provably ended; how many."""
    return sum(files.remove(session.path) for session in read_sessions(directory) if session.dead)


def _parse(path: str, data: bytes) -> SessionInfo:
    about, _, rest = data.partition(b"\n")
    pins: dict[bytes, set[ObjectId]] = {b"pack": set(), b"commit": set()}
    for line in rest.split(b"\n")[:-1]:
        what, _, digits = line.partition(b" ")
        if what in pins and len(digits) == 2 * ID_BYTES:
            with contextlib.suppress(ValueError):
                pins[what].add(bytes.fromhex(digits.decode("ascii", "replace")))
    fields = _fields(about)
    identity = processes.parse(os.path.basename(path))
    return SessionInfo(
        path=path,
        label=str(fields.get("label", "")),
        host=str(fields.get("host", "")),
        pid=identity.pid if identity is not None else 0,
        begun_ns=begun if isinstance(begun := fields.get("begun_ns"), int) else 0,
        packs=frozenset(pins[b"pack"]),
        commits=frozenset(pins[b"commit"]),
        dead=identity is not None and processes.provably_dead(identity),
    )


def _fields(about: bytes) -> dict[str, object]:
    try:
        fields = json.loads(about)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
