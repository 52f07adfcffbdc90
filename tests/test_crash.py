"""A crash at any instant: each operation of a life of a repository is recorded, and the disk cut after it.

What was acknowledged before the cut must be whole after it, whatever unsynced part of the rest survives; and
the next commands must work.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mpstore import files, fsck, gc
from mpstore.files import Operation
from mpstore.ids import ObjectId
from mpstore.repository import Repo
from tests.crash_disk import CrashDisk, crash_everywhere
from tests.repository_material import (
    Content,
    commit,
    content_of,
    new_repository,
    remove_branch,
    some_content,
    tuned_content,
)


@dataclass
class Life:
    """Operations in order, and after how many of them which branches were acknowledged."""

    operations: list[tuple[Operation, bytes]] = field(default_factory=list)
    acknowledged: list[tuple[int, dict[str, ObjectId | None]]] = field(default_factory=list)
    contents: dict[ObjectId, Content] = field(default_factory=dict)

    def record(self, operation: Operation) -> None:
        self.operations.append((operation, bytes(operation.data) if operation.data is not None else b""))

    def acknowledge(self, state: dict[str, ObjectId | None]) -> None:
        self.acknowledged.append((len(self.operations), dict(state)))

    def expected(self, cut: int) -> tuple[dict[str, ObjectId | None], dict[str, ObjectId | None]]:
        """What was acknowledged by then, and what the command that was running would have made of it."""
        before = [state for count, state in self.acknowledged if count <= cut]
        after = [state for count, state in self.acknowledged if count > cut]
        return before[-1] if before else {}, after[0] if after else before[-1]


def live(root: Path, life: Life) -> None:
    """A short life: commits that share and lean on each other, a deletion, a moved branch, gc."""
    state: dict[str, ObjectId | None] = {}
    base, other = some_content(1, 1, 3), some_content(2, 1, 2)
    tuned = tuned_content(base, 3)

    def step(name: str, action: Callable[[Repo], ObjectId | None], content: Content | None) -> None:
        commit_id = action(Repo.open(root))
        if name:
            state[name] = commit_id
        if commit_id is not None and content is not None:
            life.contents[commit_id] = content
        life.acknowledge(state)

    life.acknowledge(state)
    step("base", lambda repo: commit(repo, "base", base), base)
    step("expert", lambda repo: commit(repo, "expert", tuned, base), tuned)
    step("base", lambda repo: commit(repo, "base", other), other)
    step("gone", lambda repo: commit(repo, "gone", some_content(3, 1, 2)), some_content(3, 1, 2))
    step("gone", lambda repo: remove_branch(repo, "gone"), None)
    step("", collected, None)


def collected(repo: Repo) -> None:
    gc.collect(repo, keep_reflog_ns=0, repack_all=True)


def recorded_life(tmp_path: Path) -> tuple[CrashDisk, Life]:
    repo = new_repository(tmp_path / "repo", 1 << 20)
    disk = CrashDisk(tmp_path)
    life = Life()
    files.set_observer(life.record)
    try:
        live(Path(repo.root).parent, life)
    finally:
        files.set_observer(None)
    return disk, life


def check_after_crash(root: Path, life: Life, cut: int) -> None:
    before, after = life.expected(cut)
    repo = Repo.open(root)
    for branch in before.keys() | after.keys():
        tip = repo.tip(branch)
        assert tip in (before.get(branch), after.get(branch)), branch
        if tip is not None:
            assert content_of(repo, tip) == life.contents[tip], branch
    report = fsck.check(Repo.open(root), read_data=True)
    assert report.damage == ()
    gc.collect(Repo.open(root), keep_reflog_ns=0)
    again = Repo.open(root)
    new = commit(again, "new", some_content(7, 1, 2))
    assert content_of(Repo.open(root), new) == some_content(7, 1, 2)
    for branch in before.keys() & after.keys():
        if before[branch] == after[branch] is not None:
            assert content_of(Repo.open(root), before[branch]) == life.contents[before[branch]]


def cut_everywhere(tmp_path: Path, every: int) -> int:
    disk, life = recorded_life(tmp_path)
    crashes = crash_everywhere(
        disk,
        life.operations,
        tmp_path / "left",
        lambda cut, number: (cut + number) % every == 0 or cut == len(life.operations),
        lambda cut: check_after_crash(tmp_path / "left" / "repo", life, cut),
    )
    print(f"crash: {len(life.operations)} operations, {crashes} crashes")
    return crashes


def test_invariant_05_a_crash_leaves_every_acknowledged_commit_whole(tmp_path: Path) -> None:
    assert cut_everywhere(tmp_path, every=61) > 12


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_invariant_05_a_crash_at_every_operation_in_every_way(tmp_path: Path) -> None:
    assert cut_everywhere(tmp_path, every=1) > 400


def test_the_forgetful_disk_notices_a_missing_fsync(tmp_path: Path) -> None:
    """The check of the check: a file published without syncs is lost, with them it stays."""
    (tmp_path / "d").mkdir()
    for durable, survives in ((True, True), (False, False)):
        disk = CrashDisk(tmp_path)
        life = Life()
        files.set_observer(life.record)
        try:
            files.write_whole(tmp_path / "d" / f"x{durable}", b"content", tmp_path / "d", durable=durable)
        finally:
            files.set_observer(None)
        for operation, data in life.operations:
            disk.apply(operation, data)
        disk.crash(tmp_path.parent / "left", "strict", random.Random(0))
        assert (tmp_path.parent / "left" / "d" / f"x{durable}").exists() == survives
        disk.crash(tmp_path.parent / "left", "names", random.Random(0))
        assert (tmp_path.parent / "left" / "d" / f"x{durable}").read_bytes() == (
            b"content" if survives else b""
        )
