"""SIGKILL at random moments under load: what was acknowledged is whole, and the next process just goes on."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpstore import fsck, gc
from mpstore.repository import Repo
from tests.killed_worker import digest
from tests.repository_material import content_of, new_repository


def run_and_kill(root: Path, seed: int, seconds: float) -> list[dict[str, str | None]]:
    command = [sys.executable, "-W", "error", "-m", "tests.killed_worker", str(root), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()  # it is at work
        time.sleep(seconds)
        process.kill()
        lines = [first, *process.stdout.read().splitlines()]
        errors = process.stderr.read()
    assert errors == ""
    return [json.loads(line) for line in lines if line.endswith(("}", "}\n"))]


def follow(said: list[dict[str, str | None]], expected: dict[str, set[str | None]]) -> None:
    """Update what each branch may hold."""
    for line in said:
        branch = line.get("about") or line.get("done") or ""
        if "about" in line:
            expected[branch] = expected.get(branch, {None}) | {line["may"]}
        elif branch:
            expected[branch] = {line["digest"]}


def kill_often(root: Path, times: int, seed: int) -> int:
    new_repository(root, 2048)
    randomly = random.Random(seed)
    expected: dict[str, set[str | None]] = {}
    done = 0
    for number in range(times):
        said = run_and_kill(root, seed + number, randomly.uniform(0.02, 0.6))
        done += sum("done" in line for line in said)
        follow(said, expected)
        repo = Repo.open(root)
        for branch, may in expected.items():
            tip = repo.tip(branch)
            found = None if tip is None else digest(content_of(repo, tip))
            assert found in may, f"kill {number}, branch {branch}"
            expected[branch] = {found}
        damage = fsck.check(Repo.open(root), read_data=True).damage
        assert damage == (), f"kill {number}"
    gc.collect(Repo.open(root), keep_reflog_ns=0, repack_all=True)
    layout = Repo.open(root).objects.layout
    assert os.listdir(layout.sessions) == os.listdir(layout.trash) == os.listdir(layout.tmp) == []
    print(f"{times} kills, {done} commands between them")
    return done


def test_invariant_05_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 2, seed=1) > 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_invariant_05_a_process_killed_often_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 250, seed=1000) > 250
