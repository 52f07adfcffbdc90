"""A power cut at any operation of `mp add`, `mp merge`, deleting branches and `mp gc --repack`.

The real ingest and the real merge are recorded once, and every disk that a cut could leave is opened anew:
what was acknowledged is whole, fsck finds nothing, gc works, and the command that was cut off, run again,
ends as it should have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import mpstore
from mpstore import files
from mpstore.files import Operation
from mpstore.gc import GcReport
from mpstore.records.config import Config
from mpstore.repository import Repo
from tests.crash_disk import CrashDisk, crash_everywhere
from tests.families import fine_tuned, safetensors_bytes

Tensors = dict[str, np.ndarray]
State = dict[str, Tensors]


@dataclass
class Step:
    """A command, what the branches hold once it is done, and after how many operations that was."""

    run: Callable[[mpstore.Repository], object]
    after: State
    end: int = 0


@dataclass
class Life:
    operations: list[tuple[Operation, bytes]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def record(self, operation: Operation) -> None:
        self.operations.append((operation, bytes(operation.data) if operation.data is not None else b""))


def write(directory: Path, tensors: Tensors) -> Path:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    (directory / "config.json").write_text("{}")
    return directory


def tensors_of(repository: mpstore.Repository) -> State:
    return {
        branch.name: {key: np.array(array) for key, array in repository.tensors(branch.name).items()}
        for branch in repository.branches()
    }


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(
        left[name].keys() == right[name].keys()
        and all(np.array_equal(left[name][key], right[name][key]) for key in left[name])
        for name in left
    )


def merge(repository: mpstore.Repository) -> None:
    experts = ["math:density=.5", "code:density=.5"]
    repository.merge("merged", base="base", experts=experts, operator="ties", threads=1)


def lived(top: Path) -> tuple[CrashDisk, Life, State]:
    """A repository with a base and an expert; then an expert is added, both merged, a branch deleted and
    garbage collected. `lone` has the blocks of `gone`, whose base nothing else needs: gc lets go of it."""
    generator = np.random.default_rng(0)
    base = {f"layer{i}": generator.standard_normal((8, 32)).astype(np.float32) for i in range(2)}
    other = {"layer0": generator.standard_normal((8, 32)).astype(np.float32)}
    tensors = {"base": base, "math": fine_tuned(base, 1), "code": fine_tuned(base, 2), "other": other}
    tensors |= {"gone": fine_tuned(other, 3)}
    sources = {name: write(top / name, content) for name, content in tensors.items()}
    (top / "store").mkdir()
    Repo.init(top / "store" / "repo", Config(block_elements=64, pack_bytes=4000))
    repository = mpstore.Repository.open(top / "store" / "repo")
    repository.add(sources["base"], "base")
    repository.add(sources["math"], "math", base="base")
    repository.add(sources["other"], "other")
    repository.add(sources["gone"], "gone", base="other")
    repo = Repo.open(top / "store" / "repo")
    tip = repo.tip("gone")
    assert tip is not None
    tree = repo.commit(tip).manifest
    with repo.objects.writer("test") as writer:  # the same checkpoint, with a history that names no base
        repo.advance(writer, "lone", None, manifest=tree, parents=(), how={"verb": "add"})
    for name in ("gone", "other"):
        repository.delete_branch(name)
    first = tensors_of(repository)
    disk, life = CrashDisk(top / "store"), Life()
    with_code = {**first, "code": tensors["code"]}
    for run, after in (
        (lambda one: one.add(sources["code"], "code", base="base", threads=1), with_code),
        (merge, None),
        (lambda one: one.delete_branch("math"), None),
        (lambda one: one.gc(keep_reflog_seconds=0, repack=True), None),
    ):
        files.set_observer(life.record)
        try:
            done = run(mpstore.Repository.open(top / "store" / "repo"))
        finally:
            files.set_observer(None)
        found = tensors_of(mpstore.Repository.open(top / "store" / "repo"))
        assert after is None or same(found, after)
        life.steps.append(Step(run, found, len(life.operations)))
    assert isinstance(done, GcReport)
    assert done.released_bases_objects
    return disk, life, first


def check_after(root: Path, life: Life, first: State, cut: int) -> None:
    done = sum(step.end <= cut for step in life.steps)
    before = life.steps[done - 1].after if done else first
    now = life.steps[done] if done < len(life.steps) else None
    repository = mpstore.Repository.open(root)
    found = tensors_of(repository)
    committed = now is not None and same(found, now.after)
    assert committed or same(found, before)
    assert repository.fsck(read_data=True).damage == ()
    if now is not None and not committed:
        now.run(mpstore.Repository.open(root))
        assert same(tensors_of(mpstore.Repository.open(root)), now.after)
    repository = mpstore.Repository.open(root)
    repository.gc(keep_reflog_seconds=0, repack=True)
    assert same(tensors_of(mpstore.Repository.open(root)), before if now is None else now.after)
    assert mpstore.Repository.open(root).fsck(read_data=True).damage == ()


def cut_everywhere(top: Path, every: int) -> int:
    disk, life, first = lived(top)
    assert any(operation.kind == "unlink" for operation, _ in life.operations[life.steps[2].end :])
    crashes = crash_everywhere(
        disk,
        life.operations,
        top / "left",
        lambda cut, number: (cut + number * (every // 4)) % every == 0,
        lambda cut: check_after(top / "left" / "repo", life, first, cut),
    )
    ends = [step.end for step in life.steps]
    print(f"add, merge, delete, gc: {len(life.operations)} operations (ends at {ends}), {crashes} crashes")
    return crashes


def test_invariant_05_a_power_cut_in_add_merge_and_gc(tmp_path: Path) -> None:
    assert cut_everywhere(tmp_path, every=64) > 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_invariant_05_a_power_cut_at_every_operation_of_add_merge_and_gc(tmp_path: Path) -> None:
    assert cut_everywhere(tmp_path, every=1) > 600
