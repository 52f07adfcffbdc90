"""Power cuts at every operation of ref moves: what was acknowledged is there, the rest whole or not at all.

The operations are recorded once from the real code, and every disk that a cut could leave is opened anew.
Commits and gc are cut the same way in test_crash.py.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpstore import files
from mpstore.errors import UsageError
from mpstore.files import Operation
from mpstore.records.refs import Refs
from mpstore.repository import Repo
from tests.crash_disk import CrashDisk

WAYS = ("strict", "names", "random")
STEPS = [
    ("heads/a", 2, 3),
    ("heads/new/b", None, 1),
    ("heads/a", 3, None),
    ("heads/a", None, 4),
    ("heads/new/b", 1, 5),
]


def oid(number: int | None) -> bytes | None:
    return None if number is None else number.to_bytes(32, "big")


def alive(state: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: value for name, value in state.items() if value}


def killed_everywhere(
    tmp_path: Path,
    action: Callable[[Path], None],
    after: Callable[[Path], None],
    check: Callable[[Path], None],
) -> int:
    """`action` killed before each time that it makes names durable, `after` it by another process, then the
    power cut: `check` what that leaves. How many kills there were."""
    for count in itertools.count():
        home = tmp_path / f"home{count}"
        (home / "tmp").mkdir(parents=True)
        disk = CrashDisk(home)
        left = iter(range(count))

        def apply(operation: Operation, disk: CrashDisk = disk) -> None:
            disk.apply(operation, bytes(operation.data or b""))

        def kill(
            operation: Operation, left: Iterator[int] = left, apply: Callable[..., None] = apply
        ) -> None:
            if operation.kind == "fsync_dir" and next(left, None) is None:
                raise KeyboardInterrupt
            apply(operation)

        try:
            files.set_observer(kill)
            with contextlib.suppress(KeyboardInterrupt):
                action(home)
            ended = next(left, None) is not None
            files.set_observer(apply)
            after(home)
        finally:
            files.set_observer(None)
        disk.crash(tmp_path / "left", "strict", random.Random(1))
        try:
            check(tmp_path / "left")
        except BaseException as error:
            error.add_note(f"killed at fsync_dir {count}")
            raise
        shutil.rmtree(home)
        if ended:
            return count
    raise AssertionError


@pytest.mark.parametrize("name", ["heads/b", "heads/new/b"])
def test_invariant_05_the_log_directory_that_a_killed_process_left_is_made_durable(
    tmp_path: Path, name: str
) -> None:
    def move(home: Path) -> None:
        values = {one: ref.value for one, ref in Refs(home).values().items()}
        Refs(home).move(name, values.get(name), oid(2 if name not in values else 3), "", "", time_ns=2)

    def check(left: Path) -> None:
        newest = Refs(left).log(name)[0]
        assert newest.new in (oid(2), oid(3))
        assert Refs(left).values()[name].value == newest.new

    assert killed_everywhere(tmp_path, move, move, check) > 2


def test_invariant_05_a_repository_whose_making_was_killed_is_durable_when_it_is_used(tmp_path: Path) -> None:
    def make(home: Path) -> None:
        Repo.init(home / "deep" / "repo")

    def use(home: Path) -> None:
        with contextlib.suppress(UsageError):  # it had all but come to an end
            make(home)
        Repo.open(home / "deep" / "repo").refs.move("heads/a", None, oid(1), "", "")

    def check(left: Path) -> None:
        root = Path(Repo.open(left / "deep" / "repo").root)
        for directory in ("objects/packs", "refs/heads", "refs/tags", "logs", "tmp"):
            assert (root / directory).is_dir(), directory
        assert Refs(root).log("heads/a")

    assert killed_everywhere(tmp_path, make, use, check) > 9


def test_invariant_05_ref_moves_survive_power_cuts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    refs = Refs(home)
    refs.move("heads/a", None, oid(1), "", "", time_ns=1)
    refs.move("heads/a", oid(1), oid(2), "", "", time_ns=2)
    disk = CrashDisk(home)
    recorded: list[tuple[Operation, bytes]] = []
    states: list[dict[str, bytes | None]] = [{"heads/a": oid(2)}]
    acknowledged = [0]
    files.set_observer(lambda operation: recorded.append((operation, bytes(operation.data or b""))))
    try:
        for number, (name, old, new) in enumerate(STEPS):
            refs.move(name, oid(old), oid(new), "", "", time_ns=10 + number)
            states.append({**states[-1], name: oid(new)})
            acknowledged.append(len(recorded))
            if number == 2:
                refs.prune("heads/a", 12)
    finally:
        files.set_observer(None)
    generator = random.Random(3)
    for count in range(len(recorded) + 1):
        done = sum(count >= limit for limit in acknowledged) - 1
        for way in WAYS:
            disk.crash(tmp_path / "after", way, generator)
            (tmp_path / "after" / "tmp").mkdir(exist_ok=True)
            after = Refs(tmp_path / "after")
            found = {name: ref.value for name, ref in after.values().items()}
            assert found in [alive(state) for state in states[done : done + 2]]
            if count % 15 == 0:
                after.move("heads/a", found.get("heads/a"), oid(9), "", "")
                assert after.values()["heads/a"].value == oid(9)
        if count < len(recorded):
            disk.apply(*recorded[count])
    assert len(recorded) > 50
