"""A fault at every operation of add (one, and several), merge, gc and moves of refs, from outside.

After each: what was there is whole, a branch is where it was or where it was to go, fsck finds no damage, and
the next try succeeds. The quick run tries a part of the operations (another part for each kind of fault), the
slow one all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import mpstore
from mpstore import gc
from mpstore.errors import MpError
from mpstore.records.config import Config
from mpstore.repository import Repo
from tests.families import fine_tuned, safetensors_bytes
from tests.faults import Fault, striking

FAULTS = ("EIO", "ENOSPC", "interrupt", "short write")


@dataclass(frozen=True)
class Scene:
    """A repository with two experts on a base, a third checkpoint to add, the same in two files, and the
    tensors of each branch."""

    root: Path
    third: Path
    sharded: Path
    tensors: dict[str, dict[str, np.ndarray]]
    third_tensors: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    top = tmp_path_factory.mktemp("scene")
    generator = np.random.default_rng(0)
    base = {f"layer{i}": generator.standard_normal((8, 32)).astype(np.float32) for i in range(2)}
    experts = {name: fine_tuned(base, i) for i, name in enumerate(("math", "code", "third", "gone"))}
    tensors = {"base": base, **experts}
    for name, content in tensors.items():
        (top / name).mkdir()
        (top / name / "model.safetensors").write_bytes(safetensors_bytes(content))
        (top / name / "config.json").write_text("{}")
    Repo.init(top / "repo", Config(block_elements=64, pack_bytes=1500))
    repository = mpstore.Repository.open(top / "repo")
    repository.add(top / "base", "base")
    repository.add(top / "math", "math", base="base")
    repository.add(top / "code", "code", base="base")
    repository.add(top / "gone", "gone", base="base")
    repository.delete_branch("gone")
    (top / "sharded").mkdir()
    for key, array in tensors["third"].items():
        (top / "sharded" / f"{key}.safetensors").write_bytes(safetensors_bytes({key: array}))
    named = {name: tensors[name] for name in ("base", "math", "code")}
    return Scene(top / "repo", top / "third", top / "sharded", named, tensors["third"])


def add(root: Path, scene: Scene) -> None:
    mpstore.Repository.open(root).add(scene.third, "new", base="base", threads=1)


def add_several(root: Path, scene: Scene) -> None:
    """Two checkpoints with the same new blocks, and the files of one, come in side by side."""
    sources = [(scene.third, "new"), (scene.sharded, "newer")]
    mpstore.Repository.open(root).add_all(sources, base="base", threads=2)


def merge(root: Path, scene: Scene) -> None:
    del scene
    experts = ["math:density=.5", "code:density=.5"]
    mpstore.Repository.open(root).merge("new", base="base", experts=experts, operator="ties", threads=1)


def collect(root: Path, scene: Scene) -> None:
    del scene
    gc.collect(Repo.open(root), keep_reflog_ns=0, repack_all=True)


def move_refs(root: Path, scene: Scene) -> None:
    del scene
    repository = mpstore.Repository.open(root)
    repository.create_branch("new", "math", force=True)
    repository.create_tag("v1", "code")
    repository.delete_tag("v1")
    repository.create_branch("new", "code", force=True)


ACTIONS: dict[str, Callable[[Path, Scene], None]] = {
    "add": add,
    "add several": add_several,
    "merge": merge,
    "gc": collect,
    "refs": move_refs,
}


def struck(action: Callable[[], None], fault: Fault) -> bool:
    """Whether the action said that it failed."""
    try:
        with striking(fault):
            action()
    except (MpError, KeyboardInterrupt):
        return True
    return False


def check_whole(root: Path, scene: Scene, name: str, failed: bool) -> None:
    repository = mpstore.Repository.open(root)
    for branch, tensors in scene.tensors.items():
        found = repository.tensors(branch)
        assert set(found) == set(tensors)
        for key, array in tensors.items():
            np.testing.assert_array_equal(found[key], array)
    assert repository.fsck(read_data=True).damage == ()
    branches = {one.name for one in repository.branches()}
    made = {"add several": {"new", "newer"}, "gc": set()}.get(name, {"new"})
    assert branches <= {*scene.tensors, *made}
    assert failed or made <= branches
    if name.startswith("add"):
        for branch in branches & made:
            found = repository.tensors(branch)
            for key, array in scene.third_tensors.items():
                np.testing.assert_array_equal(found[key], array)


def try_each(scene: Scene, tmp_path: Path, name: str, kind: str, first: int, every: int) -> int:
    """Strike at operations first, first + every, … until the action has no more of them."""
    tried = 0
    number = first
    root = tmp_path / "copy"
    while True:
        shutil.copytree(scene.root, root)
        fault = Fault(number, kind)
        failed = struck(lambda: ACTIONS[name](root, scene), fault)
        try:
            assert not (failed and kind == "short write")
            check_whole(root, scene, name, failed)
            if failed:
                ACTIONS[name](root, scene)
                check_whole(root, scene, name, failed=False)
        except BaseException as error:
            error.add_note(f"{kind} at operation {number} of {name}: {fault.operation}")
            raise
        shutil.rmtree(root)
        if not fault.met:
            break
        tried += 1
        number += every
    print(f"{name}: {kind} at {tried} of {fault.count} operations")
    return tried


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", ACTIONS)
def test_a_fault_loses_nothing(scene: Scene, tmp_path: Path, name: str, kind: str) -> None:
    assert try_each(scene, tmp_path, name, kind, 1 + FAULTS.index(kind), every=97) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", ACTIONS)
def test_a_fault_at_every_operation_loses_nothing(scene: Scene, tmp_path: Path, name: str, kind: str) -> None:
    assert try_each(scene, tmp_path, name, kind, 1, every=1) > 20
