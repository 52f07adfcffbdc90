"""Refs: names that move by compare-and-swap, without locks; each keeps its history.

Relies on files, refread and reflog. Promises (DESIGN §5.2): creating `logs/<name>/@<n+1>` by link(2) *is*
the compare-and-swap, so a move is visible whole or not at all and a lost race is ConflictError; the ref file
only saves readers the way through the log, and either repairs the other when damaged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from mpstore import files
from mpstore.errors import ConflictError, DamagedError, NotFoundError, StorageError, UsageError
from mpstore.ids import ObjectId, short
from mpstore.records import reflog
from mpstore.records.reflog import MAX_WHY_CHARACTERS, LogEntry, Ref
from mpstore.records.refnames import check_name, describe
from mpstore.records.refread import RefReader, State

_MAX_GAP: Final = 1000


class Refs(RefReader):
    """The refs of one repository. Every call looks at the disk: any process may move any ref."""

    def move(
        self,
        name: str,
        old: ObjectId | None,
        new: ObjectId | None,
        why: str,
        who: str,
        *,
        force: bool = False,
        time_ns: int | None = None,
    ) -> LogEntry:
        """Move `name` from `old` (None: it must not exist) to `new` (None: delete), durably.

        Whatever `new` names must be durable already. Raises ConflictError, with nothing changed, when the
        value is not `old` or somebody moves it at the same time, and when a tag would move without `force`;
        DamagedError, without `force`, when the newest move cannot be read: what is built on an older one
        would hide it. UsageError when a name would be a directory of another.
        """
        state = self._state(check_name(name))
        if state.value != old:
            raise _lost(name, old, state.value)
        if not force:
            self._check_certain(name, state)
        if name.startswith("tags/") and old is not None and new is not None and not force:
            raise ConflictError(f"{describe(name)} exists ({short(old)}); tags do not move")
        if old is None and new is not None:
            self.check_room(name)
        now = time.time_ns() if time_ns is None else time_ns
        why = why[:MAX_WHY_CHARACTERS]
        entry = LogEntry(name, state.seq + 1, old, new, now, who, why, state.entry, os.urandom(8))
        files.make_directories(self._log_dir(name), within=self._dir)
        path = self._entry_path(name, entry.seq)
        if not files.create_exclusive(path, reflog.entry_bytes(entry), self._tmp):
            raise _lost(name, old, self._state(name).value)
        self._check_not_stale(entry)
        self._follow(name, State(entry.seq, new, entry.digest))
        return entry

    def prune(self, name: str, older_than_ns: int, *, dry_run: bool = False) -> int:
        """Remove entries that were superseded before the instant `older_than_ns`, lowest first; the newest
        always stays. Returns how many went (or would)."""
        if not self.is_certain(name):
            return 0
        numbers = self._numbers(name)
        going = []
        for index, seq in enumerate(numbers[:-1]):
            superseded_ns = self._first_time(name, numbers[index + 1 :])
            if superseded_ns is None or superseded_ns >= older_than_ns:
                break
            going.append(seq)
        if going and not dry_run:
            self._follow_if_behind(name)  # so that what stays is told twice
            for seq in going:
                files.remove(self._entry_path(name, seq))
            files.fsync_directory(self._log_dir(name))
        return len(going)

    def damage(self, name: str) -> list[str]:
        """What is wrong with the files of a name, in words; empty: all is well. A ref file that lags behind
        its log is no damage."""
        found = []
        try:
            path = self._ref_path(check_name(name))
            reflog.read_ref(path, name)
            if os.path.isdir(path) and self._state(name).value is not None:
                found.append(f"{path}: a directory, where the ref's file should be")
        except DamagedError as error:
            found.append(error.message)
        for seq in self._span(name):
            try:
                if self._entry(name, seq) is None:
                    found.append(f"{self._entry_path(name, seq)}: missing from the log")
            except DamagedError as error:
                found.append(error.message)
        return found

    def repair(self, name: str, newest: ObjectId | None = None) -> list[str]:
        """Rewrite a ref file that is damaged or lags behind, and lost entries whose neighbours tell what they
        said. Returns what was done, in words.

        `newest`: what the newest move named, where it cannot be read; without it the move stays unreadable.
        """
        state = self._state(check_name(name))
        known = state.certain or newest is not None
        state = state if state.certain else State(state.seq, newest, b"", known)
        done = [
            f"{self._entry_path(name, seq)}: restored from its neighbours"
            for seq in self._span(name)
            if (known or seq != state.seq)
            and self._try_entry(name, seq) is None
            and self._restore_entry(name, seq, state)
        ]
        if self._follow_if_behind(name):
            done.append(f"{self._ref_path(name)}: rewritten from the log")
        return done

    def _span(self, name: str) -> Sequence[int]:
        """From the lowest entry to the newest that log or ref file know of, gaps included unless they are
        absurd (a foreign file with a number of its own)."""
        numbers = self._numbers(name)
        try:
            stored = reflog.read_ref(self._ref_path(name), name)
        except DamagedError:
            stored = None
        if stored is not None and (not numbers or stored.seq > numbers[-1]):
            numbers.append(stored.seq)  # one that lags behind a pruned log (after a crash) is no gap
        span = range(min(numbers), max(numbers) + 1) if numbers else range(0)
        return span if len(span) <= len(numbers) + _MAX_GAP else sorted(set(numbers))

    def _first_time(self, name: str, numbers: list[int]) -> int | None:
        """The time of the first readable entry."""
        entries = (self._try_entry(name, seq) for seq in numbers)
        return next((entry.time_ns for entry in entries if entry is not None), None)

    def _check_not_stale(self, entry: LogEntry) -> None:
        """A writer that slept while others moved on and the log was pruned can create a number that had
        been taken before. Pruning goes upward, so then the entry below is gone and a higher one is there."""
        below = self._try_entry(entry.name, entry.seq - 1)
        if below is not None and entry.previous in (b"", below.digest):
            return
        numbers = self._numbers(entry.name)
        if not numbers or numbers[-1] <= entry.seq:
            return
        after = self._try_entry(entry.name, entry.seq + 1)
        if after is not None and after.previous == entry.digest:
            return  # ours, and somebody has built on it
        if not files.remove(self._entry_path(entry.name, entry.seq)):
            raise ConflictError(
                f"{describe(entry.name)} was moved by others, and its log pruned, in this very moment",
                hint="`mp reflog` tells whether this move is part of it",
            )
        raise _lost(entry.name, entry.old, self._state(entry.name).value)

    def _follow_if_behind(self, name: str) -> bool:
        """Rewrite a ref file that is damaged or lags behind the log; whether there was need."""
        state = self._state(name)
        try:
            stored = reflog.read_ref(self._ref_path(name), name)
        except DamagedError:
            stored = None
        if state.value is None or not state.certain:
            return False
        if stored == Ref(name, state.seq, state.value, state.entry):
            return False
        self._follow(name, state)
        return True

    def _follow(self, name: str, state: State) -> None:
        """Bring the ref file after the log. The move has come to pass: what fails here is only a warning."""
        path = self._ref_path(name)
        try:
            if state.value is None:
                if files.remove(path):
                    files.fsync_directory(os.path.dirname(path))
                self._remove_empty(os.path.dirname(path))
                return
            files.make_directories(os.path.dirname(path), within=self._dir)
            if os.path.isdir(path):
                _remove_empty_tree(path)
            ref = Ref(name, state.seq, state.value, state.entry)
            files.write_whole(path, reflog.ref_bytes(ref), self._tmp)
        except (NotFoundError, StorageError) as error:
            self.progress.warn(
                f"{describe(name)} has moved, but its ref file lags behind its log: {error.message}"
            )

    def _remove_empty(self, directory: str) -> None:
        """Remove directories of refs that became empty, so that `a` may follow `a/b`."""
        top = os.path.join(self._dir, "refs")
        while os.path.dirname(os.path.dirname(directory)) != os.path.dirname(top):
            if not files.remove_directory(directory):
                return
            directory = os.path.dirname(directory)

    def check_room(self, name: str) -> None:
        """UsageError where `name` would be a directory of another name, or the other way round."""
        parts = name.split("/")
        above = ["/".join(parts[:depth]) for depth in range(2, len(parts))]
        taken = [other for other in above if self._lives(other)] or self.names(name + "/")[:1]
        if taken:
            raise UsageError(
                f"{describe(name)} cannot be created: {describe(taken[0])} exists, "
                "and a name cannot be part of another's path"
            )

    def _restore_entry(self, name: str, seq: int, state: State) -> bool:
        """Write again what entry `seq` must have said, from the old of the next and the new of the last."""
        below, above = self._try_entry(name, seq - 1), self._try_entry(name, seq + 1)
        near = above or below
        if near is None and seq != state.seq:  # the lowest of the log, and nothing tells what it said
            return files.remove(self._entry_path(name, seq))
        if seq == state.seq:
            new = state.value
        else:  # without the next entry: as if nothing had moved
            new = above.old if above is not None else below.new if below is not None else None
        entry = LogEntry(
            name,
            seq,
            old=below.new if below else None,
            new=new,
            time_ns=near.time_ns if near else 0,
            who="",
            why="restored by repair",
            previous=below.digest if below else b"",
        )
        path = self._entry_path(name, seq)
        if os.path.isdir(path):
            _remove_empty_tree(path)
        files.write_whole(path, reflog.entry_bytes(entry), self._tmp)
        return True


def _remove_empty_tree(directory: str) -> None:
    for entry in list(os.scandir(directory)):
        if entry.is_dir(follow_symlinks=False):
            _remove_empty_tree(entry.path)
    files.remove_directory(directory)


def _lost(name: str, expected: ObjectId | None, found: ObjectId | None) -> ConflictError:
    was = "absent" if expected is None else short(expected)
    now = "absent" if found is None else short(found)
    return ConflictError(
        f"{describe(name)} was moved by somebody else: expected {was}, found {now}; nothing was changed",
        hint="look at what is there now, and try again",
    )


__all__ = ["LogEntry", "Ref", "Refs", "check_name", "describe"]
