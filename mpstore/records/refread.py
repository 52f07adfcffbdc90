"""Refs as a reader sees them: the ref file, the log it follows, and what to make of damage on either side.

Relies on reflog and refnames. Promises: nothing is written; a value is the newest that the log has, whatever
moves, prunes or crashes meanwhile; what had to be read around is a warning, what cannot be is DamagedError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mpstore import events
from mpstore.errors import DamagedError, UsageError
from mpstore.ids import ObjectId
from mpstore.records import reflog
from mpstore.records.reflog import LogEntry, Ref
from mpstore.records.refnames import KINDS, check_name, describe


@dataclass(frozen=True)
class State:
    """What is known of a name: the highest number taken (0: none), the value (None: no such ref), and the
    digest of the entry that gave it (b"": unknown). Not `certain`: of the newest move neither entry nor ref
    file can be read, so the value is the one before."""

    seq: int
    value: ObjectId | None
    entry: bytes
    certain: bool = True


class RefReader:
    """The refs of one repository. Every call looks at the disk: any process may move any ref."""

    def __init__(self, mp_dir: str | os.PathLike[str], progress: events.Progress = events.silent) -> None:
        self._dir = os.fspath(mp_dir)
        self._tmp = os.path.join(self._dir, "tmp")
        self.progress = progress

    check_name = staticmethod(check_name)

    def read(self, name: str) -> Ref | None:
        """The current value, or None. DamagedError where neither ref file nor log can be read; where one of
        them can, a warning."""
        return _ref(name, self._state(check_name(name)))

    def settled(self, name: str) -> Ref | None:
        """`read`, where an older value will not do: DamagedError if the newest move cannot be read."""
        state = self._state(check_name(name))
        self._check_certain(name, state)
        return _ref(name, state)

    def is_certain(self, name: str) -> bool:
        """Whether the newest move can be read. DamagedError: nothing can."""
        return self._state(check_name(name)).certain

    def _check_certain(self, name: str, state: State) -> None:
        if state.certain:
            return
        own = name.partition("/")[2]
        is_branch = name.startswith("heads/")
        word = f"mp branch -f {own} COMMIT` says where it is" if is_branch else f"mp tag -d {own}` forgets it"
        raise DamagedError(
            f"{describe(name)} cannot be told: its newest move, @{state.seq}, cannot be read",
            hint=f"`mp fsck --repair` looks for the commit that it named; `{word}",
        )

    def names(self, prefix: str = "", *, deleted: bool = False) -> list[str]:
        """Sorted full names that begin with `prefix` ("heads/"); those of damaged refs too, whose `read` says
        more. deleted: also names that only have a history."""
        found = {name for name in self._candidates(prefix) if name.startswith(prefix)}
        return sorted(name for name in found if deleted or self._lives(name))

    def values(self, prefix: str = "") -> dict[str, Ref]:
        """Every readable ref whose name begins with `prefix`, by name; a damaged one is a warning."""
        found = {}
        for name in sorted({one for one in self._candidates(prefix) if one.startswith(prefix)}):
            try:
                ref = self.read(name)
            except DamagedError as error:
                self.progress.warn(error.message)
                continue
            if ref is not None:
                found[name] = ref
        return found

    def log(self, name: str) -> list[LogEntry]:
        """The readable entries, newest first; a damaged one is a warning. Works on deleted names too."""
        entries = []
        for seq in reversed(self._numbers(check_name(name))):
            try:
                entry = self._entry(name, seq)
            except DamagedError as error:
                self.progress.warn(error.message)
                continue
            if entry is not None:
                entries.append(entry)
        return entries

    def _state(self, name: str) -> State:
        damage: list[str] = []
        try:
            stored = reflog.read_ref(self._ref_path(name), name)
        except DamagedError as error:
            stored = None
            damage.append(error.message)
        state = None if stored is None else self._walk(name, stored, damage)
        # Pruning goes upward: while the entry that the walk began at is there, nothing after it has gone.
        if state is None or not self._stands(name, stored):
            state = self._newest(name, stored, damage)
        if state is None:
            raise DamagedError(
                f"{describe(name)} cannot be read: {'; '.join(damage)}",
                hint=f"restore {self._ref_path(name)} or {self._log_dir(name)} from a copy, or remove both",
            )
        for message in damage:
            self.progress.warn(f"{message} (read around it)")
        return state

    def _walk(self, name: str, stored: Ref, damage: list[str]) -> State:
        """Follow the log forward from the ref file: a move may have come to pass without it."""
        state = State(stored.seq, stored.value, stored.entry)
        while True:
            seq = state.seq + 1
            try:
                entry = self._entry(name, seq)
            except DamagedError as error:
                damage.append(error.message)
                state = State(seq, state.value, b"", certain=False)
                continue
            if entry is None:
                return state
            state = State(seq, entry.new, entry.digest)

    def _stands(self, name: str, ref: Ref | None) -> bool:
        """The very entry that gave the ref this value is in the log."""
        return ref is not None and reflog.read_digest(self._entry_path(name, ref.seq)) == ref.entry

    def _newest(self, name: str, stored: Ref | None, damage: list[str]) -> State | None:
        """The newest readable entry, or the ref file if that is newer; None: all there is is damaged."""
        numbers = self._numbers(name) or self._numbers(name)  # twice: pruned and grown while it was listed
        highest = max(numbers[-1] if numbers else 0, stored.seq if stored else 0)
        for seq in reversed(numbers):
            if stored is not None and stored.seq > seq:
                break
            try:
                entry = self._entry(name, seq)
            except DamagedError as error:
                damage.append(error.message)
                continue
            if entry is None:  # pruned this moment: there is a newer one
                return self._newest(name, stored, damage)
            newest = seq == highest
            return State(highest, entry.new, entry.digest if newest else b"", newest)
        if stored is not None:
            newest = stored.seq == highest and stored.entry != b""
            return State(highest, stored.value, stored.entry if newest else b"", newest)
        return None if damage else State(0, None, b"")

    def _lives(self, name: str) -> bool:
        try:
            return self._state(name).value is not None
        except DamagedError:
            return True

    def _candidates(self, prefix: str) -> Iterator[str]:
        """Names that have a ref file or a log."""
        kinds = [f"{kind}/" for kind in KINDS if f"{kind}/".startswith(prefix)]
        for start in kinds or [prefix[: prefix.rfind("/") + 1]]:
            if start.split("/")[0] in KINDS:
                yield from self._walk_tree("refs", start)
                yield from self._walk_tree("logs", start)

    def _walk_tree(self, tree: str, start: str) -> Iterator[str]:
        top = os.path.join(self._dir, tree)
        for directory, _, leaves in os.walk(os.path.join(top, start)):
            relative = os.path.relpath(directory, top).replace(os.sep, "/")
            if tree == "refs":
                names = [f"{relative}/{leaf}" for leaf in leaves]
            else:
                names = [relative] if any(leaf.startswith("@") for leaf in leaves) else []
            yield from filter(_allowed, names)

    def _numbers(self, name: str) -> list[int]:
        return reflog.entry_numbers(self._log_dir(name))

    def _entry(self, name: str, seq: int) -> LogEntry | None:
        return reflog.read_entry(self._entry_path(name, seq), name, seq)

    def _try_entry(self, name: str, seq: int) -> LogEntry | None:
        try:
            return self._entry(name, seq)
        except DamagedError:
            return None

    def _ref_path(self, name: str) -> str:
        return os.path.join(self._dir, "refs", name)

    def _log_dir(self, name: str) -> str:
        return os.path.join(self._dir, "logs", name)

    def _entry_path(self, name: str, seq: int) -> str:
        return os.path.join(self._dir, "logs", name, f"@{seq}")


def _ref(name: str, state: State) -> Ref | None:
    return None if state.value is None else Ref(name, state.seq, state.value, state.entry)


def _allowed(name: str) -> bool:
    try:
        check_name(name)
    except UsageError:
        return False
    return True
