"""Processes add, delete and collect garbage in one repository at once; nothing that stays named is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mpstore
from mpstore import fsck
from mpstore.repository import Repo
from tests.concurrent_commands import digest, make_repository
from tests.repository_material import new_repository

Result = tuple[Counter[str], dict[str, str]]


def run_processes(module: str, directory: Path, workers: int, seconds: float, seed: int) -> Result:
    command = [sys.executable, "-W", "error", "-m", module, str(directory)]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(seconds), str(seed + number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(workers)
    ]
    done: Counter[str] = Counter()
    expected: dict[str, str] = {}
    failures = []
    for process in processes:
        out, err = process.communicate()
        if process.returncode:
            failures.append(err)
            continue
        result = json.loads(out)
        done.update(result["done"])
        expected |= result["expected"]
    assert not failures, f"seed {seed}:\n" + "\n".join(failures)
    return done, expected


def check_after(root: Path) -> None:
    assert fsck.check(Repo.open(root), read_data=True).damage == ()
    layout = Repo.open(root).objects.layout
    assert os.listdir(layout.sessions) == os.listdir(layout.trash) == []


def run_workers(root: Path, workers: int, seconds: float, seed: int) -> Counter[str]:
    new_repository(root, 4096)
    done, expected = run_processes("tests.concurrent_worker", root, workers, seconds, seed)
    again = Repo.open(root)
    tips = {
        name.removeprefix("heads/"): again.tip(name.removeprefix("heads/"))
        for name in again.refs.names("heads/")
    }
    assert {branch: tip.hex() for branch, tip in tips.items() if tip} == expected
    check_after(root)
    return done


def run_commands(top: Path, workers: int, seconds: float, seed: int) -> Counter[str]:
    make_repository(top)
    base = digest(mpstore.Repository.open(top / "repo"), "base")
    done, expected = run_processes("tests.concurrent_commands", top, workers, seconds, seed)
    repository = mpstore.Repository.open(top / "repo")
    found = {branch.name: digest(repository, branch.name) for branch in repository.branches()}
    assert found == {**expected, "base": base}
    check_after(top / "repo")
    repository.gc(keep_reflog_seconds=0, repack=True)
    check_after(top / "repo")
    return done


def test_invariant_06_processes_at_once_against_a_model(tmp_path: Path) -> None:
    done = run_workers(tmp_path, 2, 1.5, seed=1)
    print(f"two processes: {dict(done)}")
    assert done["collect"] > 1
    assert done["commit"] > 2


def test_invariant_06_adds_merges_deletions_and_gc_at_once(tmp_path: Path) -> None:
    done = run_commands(tmp_path, 2, 1.5, seed=1)
    print(f"two processes that add and merge: {dict(done)}")
    assert done["add"] + done["merge"] > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 600, 100))
def test_invariant_06_processes_at_once_against_a_model_for_long(tmp_path: Path, seed: int) -> None:
    done = run_workers(tmp_path, 5, 60.0, seed)
    print(f"five processes: {dict(done)}")
    assert done["collect"] > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 400, 100))
def test_invariant_06_adds_merges_deletions_and_gc_at_once_for_long(tmp_path: Path, seed: int) -> None:
    done = run_commands(tmp_path, 5, 60.0, seed)
    print(f"five processes that add and merge: {dict(done)}")
    assert done["collect"] > 20
