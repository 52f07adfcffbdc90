"""Sessions for people: who holds what since when, and declaring those of dead hosts dead.

Relies on sessions and processes. Promises: a session of this host is never dropped while its process may be
alive; every other one only where the user names it or its host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from mpstore import files, processes
from mpstore.errors import UsageError
from mpstore.store.sessions import SUFFIX, SessionInfo, read_sessions

_SPANS: Final = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def describe(sessions: Sequence[SessionInfo], foreign: bool) -> tuple[str, ...]:
    """A line for each session of this host (or, foreign, of others): label, pid, host, age, and its name."""
    return tuple(line(session) for session in sessions if is_foreign(session) == foreign)


def is_foreign(session: SessionInfo) -> bool:
    """Whether this host (or container) cannot know if the session's process is alive."""
    identity = processes.parse(os.path.basename(session.path))
    return identity is None or identity.host != processes.current().host


def drop_sessions(directory: str, wanted: Sequence[str], dry_run: bool) -> tuple[SessionInfo, ...]:
    """Remove the sessions that have one of these hosts or names, and say which those were.

    UsageError: none has it, or only ones of this host that are alive; nothing was removed.
    """
    sessions = [one for one in read_sessions(directory) if wanted]
    chosen: dict[str, SessionInfo] = {}
    for word in wanted:
        named = [one for one in sessions if word in (one.host, name_of(one))]
        if not named:
            raise UsageError(
                f"no session of a host or with a name {word!r}", hint="`mp gc --dry-run` lists them"
            )
        droppable = [one for one in named if one.dead or is_foreign(one)]
        if not droppable:
            raise UsageError(
                f"{line(named[0])} runs on this host: it is not dead",
                hint="end that process; what it held is free then without --drop-sessions",
            )
        chosen |= {one.path: one for one in droppable}
    if not dry_run:
        for path in chosen:
            files.remove(path)
    return tuple(chosen.values())


def name_of(session: SessionInfo) -> str:
    """What the session is called: its file's name without the suffix."""
    return os.path.basename(session.path).removesuffix(SUFFIX)


def line(session: SessionInfo) -> str:
    """The session in words."""
    age = f", begun {_age(session.begun_ns)} ago" if session.begun_ns else ""
    return f"{session.label} (pid {session.pid} on {session.host}{age}; session {name_of(session)})"


def _age(begun_ns: int) -> str:
    """The two largest units.

    >>> _age(time.time_ns() - 93_784 * 10**9)
    '1 day 2 hours'
    """
    left = max(0, time.time_ns() - begun_ns) // 10**9
    parts: list[str] = []
    for name, unit in _SPANS:
        count, left = divmod(left, unit)
        if count or (name == "second" and not parts):
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(parts[:2])
