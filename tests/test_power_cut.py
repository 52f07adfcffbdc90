"""Power cuts at every operation of moves and commits: what was acknowledged is there, the rest whole or not.

The operations are recorded once from the real code, and every disk that a cut could leave is opened anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commit_material import commit
from crash_disk import CrashDisk

from mpstore.records.config import Config
from mpstore.records.refs import Refs
from mpstore.repository import Repo

SEEDS = (None, 1)


def disks(disk: CrashDisk, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """(operations done, directory) for every cut, and for several fates of what was not synced."""
    for count in disk.replay():
        for seed in SEEDS:
            target = tmp_path / f"cut-{count}-{seed}"
            disk.write_out(target, None if seed is None else seed * 10_000 + count)
            yield count, target
            shutil.rmtree(target)


def oid(number: int) -> bytes:
    return number.to_bytes(32, "big")


def alive(state: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: value for name, value in state.items() if value}


def test_invariant_05_ref_moves_survive_power_cuts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    refs = Refs(home)
    refs.move("heads/a", None, oid(1), "", "", time_ns=1)
    refs.move("heads/a", oid(1), oid(2), "", "", time_ns=2)
    disk = CrashDisk(home)
    steps = [
        ("heads/a", oid(2), oid(3)),
        ("heads/new/b", None, oid(1)),
        ("heads/a", oid(3), None),
        ("heads/a", None, oid(4)),
        ("heads/new/b", oid(1), oid(5)),
    ]
    states: list[dict[str, bytes | None]] = [{"heads/a": oid(2)}]
    acknowledged = [0]
    with disk.recording():
        for number, (name, old, new) in enumerate(steps):
            refs.move(name, old, new, "", "", time_ns=10 + number)
            states.append({**states[-1], name: new})
            acknowledged.append(len(disk.operations))
            if number == 2:
                refs.prune("heads/a", 12)
    cuts = 0
    for count, path in disks(disk, tmp_path):
        cuts += 1
        done = sum(count >= limit for limit in acknowledged) - 1
        found = {name: ref.value for name, ref in Refs(path).values().items()}
        assert found in [alive(state) for state in states[done : done + 2]]
        if count % 5:
            continue
        (path / "tmp").mkdir(exist_ok=True)
        after = Refs(path)
        old = found.get("heads/a")
        after.move("heads/a", old, oid(9), "", "")
        assert after.values()["heads/a"].value == oid(9)
    assert cuts > 99


@pytest.mark.parametrize("pack_bytes", [pytest.param(1024, marks=pytest.mark.slow), 1 << 20])
def test_invariant_05_commits_survive_power_cuts(tmp_path: Path, pack_bytes: int) -> None:
    home = tmp_path / "home"
    repo = Repo.init(home, Config(block_elements=64, pack_bytes=pack_bytes, compression="fast"))
    draw = np.random.default_rng(0)
    tensors = [{"w": draw.standard_normal(150).astype(np.float32), "v": np.arange(5.0) + n} for n in range(3)]
    commits = [commit(repo, "main", tensors[0])]
    disk = CrashDisk(home)
    acknowledged = [0]
    with disk.recording():
        for content in tensors[1:]:
            commits.append(commit(repo, "main", content))
            acknowledged.append(len(disk.operations))
    cuts = 0
    for count, path in disks(disk, tmp_path):
        cuts += 1
        done = sum(count >= limit for limit in acknowledged) - 1
        found = Repo.open(path)
        tip = found.tip("main")
        assert tip in commits[done : done + 2]
        for number in range(commits.index(tip) + 1):
            manifest = found.manifest(found.commit(commits[number]).manifest)
            for key, array in tensors[number].items():
                assert (found.read_tensor(manifest, key) == array).all()
        if count % 20 == 0:
            after = commit(found, "main", {"w": tensors[2]["w"] + count})
            assert Repo.open(path).tip("main") == after
    assert cuts > 60
