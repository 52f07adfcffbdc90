"""Refs against a dictionary: any sequence of moves, deletions, prunes, lagging and damaged files, repairs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpstore import files
from mpstore.errors import ConflictError, UsageError
from mpstore.records.refs import Refs

NAMES = ("heads/a", "heads/a/b", "heads/c", "tags/v")
names = st.sampled_from(NAMES)


def _within(one: str, other: str) -> bool:
    return one.startswith(other + "/")


class RefsModel(RuleBasedStateMachine):
    """One side of each name is damaged at a time; the other must carry it."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        (self.home / "tmp").mkdir()
        self.refs = Refs(self.home)
        self.values: dict[str, bytes] = {}
        self.moves: dict[str, list[bytes | None]] = {name: [] for name in NAMES}
        self.hurt: set[str] = set()
        self.holed: set[str] = set()  # names whose log has lost an entry
        self.clock = 0

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @rule(name=names, new=st.none() | st.integers(1, 5).map(lambda n: bytes([n]) * 32), force=st.booleans())
    def move(self, name: str, new: bytes | None, force: bool) -> None:
        old = self.values.get(name)
        self.clock += 1
        clash = [other for other in self.values if _within(other, name) or _within(name, other)]
        try:
            self.refs.move(name, old, new, "why", "who", force=force, time_ns=self.clock)
        except UsageError:
            assert old is None
            assert new is not None
            assert clash
            return
        except ConflictError:
            assert name == "tags/v"
            assert old is not None
            assert new is not None
            assert not force
            return
        assert not (clash and old is None and new is not None)
        self.moves[name].append(new)
        self.values.pop(name, None)
        if new is not None:
            self.values[name] = new
        self.hurt.discard(name)

    @rule(name=names)
    def move_from_a_wrong_value(self, name: str) -> None:
        with pytest.raises(ConflictError):
            self.refs.move(name, b"\xff" * 32, bytes(32), "", "")

    @rule(name=names, back=st.integers(0, 6))
    def prune(self, name: str, back: int) -> None:
        if name not in self.hurt:
            gone = self.refs.prune(name, self.clock - back)
            assert gone == 0 or gone < len(self.moves[name])
            assert self.refs.prune(name, self.clock - back) == 0
            del self.moves[name][:gone]

    @precondition(lambda self: self.values)
    @rule(
        data=st.data(), how=st.sampled_from(["delete", "flip", "cut"]), what=st.sampled_from(["ref", "entry"])
    )
    def damage(self, data: st.DataObject, how: str, what: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.values)))
        if name in self.hurt:
            return
        entries = sorted((self.home / "logs" / name).glob("@*"), key=lambda path: int(path.name[1:]))
        path = self.home / "refs" / name if what == "ref" else entries[-1]
        if what == "entry" and not (self.home / "refs" / name).exists():
            return
        content = path.read_bytes()
        path.unlink()
        if how != "delete":
            path.write_bytes(content[:-9] if how == "cut" else bytes([content[0] ^ 1]) + content[1:])
        self.hurt.add(name)
        if what == "entry":
            self.holed.add(name)

    @rule(name=names)
    def repair(self, name: str) -> None:
        self.refs.repair(name)
        assert self.refs.damage(name) == []
        assert self.refs.repair(name) == []
        self.hurt.discard(name)

    @precondition(lambda self: "heads/c" in self.values and "heads/c" not in self.hurt)
    @rule()
    def a_move_whose_ref_file_is_not_written(self) -> None:
        """The process dies between the link and the ref file."""
        self.clock += 1

        class Dead(BaseException):
            pass

        def die(operation: files.Operation) -> None:
            if operation.kind == "rename":
                raise Dead

        files.set_observer(die)
        try:
            self.refs.move("heads/c", self.values["heads/c"], b"\x09" * 32, "", "", time_ns=self.clock)
        except Dead:
            pass
        finally:
            files.set_observer(None)
        self.values["heads/c"] = b"\x09" * 32
        self.moves["heads/c"].append(b"\x09" * 32)
        self.hurt.add("heads/c")  # the entry alone has it now

    @invariant()
    def what_is_read_is_what_was_moved(self) -> None:
        assert {name: ref.value for name, ref in self.refs.values().items()} == self.values
        assert self.refs.names() == sorted(self.values)
        for name in NAMES:
            ref = self.refs.read(name)
            assert (None if ref is None else ref.value) == self.values.get(name)
            if name not in self.hurt | self.holed:
                kept = list(reversed(self.moves[name]))
                assert [entry.new for entry in self.refs.log(name)] == kept


RefsModel.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestRefsModel = RefsModel.TestCase


NO_SHRINKING = (Phase.explicit, Phase.generate)  # which takes longer than finding


class ManyMore(RefsModel):
    """The same, for minutes."""


ManyMore.TestCase.settings = settings(
    max_examples=400, stateful_step_count=50, deadline=None, phases=NO_SHRINKING
)
TestRefsModelForMinutes = pytest.mark.slow(ManyMore.TestCase)
