"""Processes add, delete and collect garbage in one repository at once; nothing that stays named is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mpstore import fsck
from mpstore.repository import Repo
from tests.repository_material import new_repository


def run_workers(root: Path, workers: int, seconds: float, seed: int) -> Counter[str]:
    repo = new_repository(root, 4096)
    command = [sys.executable, "-W", "error", "-m", "tests.concurrent_worker", str(root)]
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
    again = Repo.open(root)
    tips = {
        name.removeprefix("heads/"): again.tip(name.removeprefix("heads/"))
        for name in again.refs.names("heads/")
    }
    assert {branch: tip.hex() for branch, tip in tips.items() if tip} == expected
    assert fsck.check(again, read_data=True).damage == ()
    assert os.listdir(repo.objects.layout.sessions) == os.listdir(repo.objects.layout.trash) == []
    return done


def test_invariant_06_processes_at_once_against_a_model(tmp_path: Path) -> None:
    done = run_workers(tmp_path, 3, 3.0, seed=1)
    print(f"three processes: {dict(done)}")
    assert done["collect"] > 3
    assert done["commit"] > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 600, 100))
def test_invariant_06_processes_at_once_against_a_model_for_long(tmp_path: Path, seed: int) -> None:
    done = run_workers(tmp_path, 5, 60.0, seed)
    print(f"five processes: {dict(done)}")
    assert done["collect"] > 20
