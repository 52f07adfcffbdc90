"""Who is running: a token that names this process for good, and whether another one is provably dead.

Relies on nothing. Promises: a token is safe in a file name; `provably_dead` answers True only for a process
of this host (and process namespace) that has ended or is of an earlier boot. All else counts as alive.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

_TOKEN: Final = re.compile(r"([0-9a-f]+)\.([0-9]+)\.([0-9a-f]{8})\.([0-9a-f]{8})")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process: pid, start time (clock ticks since boot, "0" unknown), digests of boot id and of host."""

    pid: int
    started: str
    boot: str
    host: str

    @property
    def token(self) -> str:
        """Letters, digits and dots; `parse` reads it back."""
        return f"{self.pid:x}.{self.started}.{self.boot}.{self.host}"


def parse(text: str) -> ProcessIdentity | None:
    """The identity that `text` begins with, or None."""
    match = _TOKEN.match(text)
    if match is None:
        return None
    return ProcessIdentity(int(match[1], 16), match[2], match[3], match[4])


def current() -> ProcessIdentity:
    """This process (right after a fork too)."""
    return _identity_of(os.getpid())


def host_name() -> str:
    """The host's name for people."""
    import socket

    return socket.gethostname()


def provably_dead(identity: ProcessIdentity) -> bool:
    """True only where this host knows that the process has ended."""
    here = current()
    if identity.host != here.host:
        return False
    if identity.boot != here.boot:
        return _digest("") not in (identity.boot, here.boot)  # one of the two could not be read
    started = _start_time(identity.pid)
    if started is not None:
        return "0" not in (started, identity.started) and started != identity.started
    try:
        os.kill(identity.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return os.path.isdir("/proc/self")  # with a /proc, a pid that is a zombie or has no entry has ended


@lru_cache(maxsize=4)
def _identity_of(pid: int) -> ProcessIdentity:
    return ProcessIdentity(pid, _start_time(pid) or "0", _digest(_boot_id()), _digest(_host_id()))


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _boot_id() -> str:
    return _first_line("/proc/sys/kernel/random/boot_id")


def _host_id() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # a container's pids mean nothing outside it
    except OSError:
        namespace = ""
    return f"{host_name()} {_first_line('/etc/machine-id')} {namespace}"


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat; None where there is no such process, it is a zombie, or no /proc; "0" where
    it cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:  # out of file descriptors, say: that tells nothing of the process
        return "0"
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return fields[19]
