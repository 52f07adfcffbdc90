"""SIGKILL at random moments of `mp add`, `mp merge`, `mp branch -d` and `mp gc`: nothing that was said
to be done is lost, fsck is clean, and the same command run again completes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mpstore
from mpstore.records.config import Config
from mpstore.repository import Repo
from tests.command import ROOT, Inline, clean_environment
from tests.families import fine_tuned, safetensors_bytes

Tensors = dict[str, np.ndarray]


class Workshop:
    """A repository with a base and an expert, sources for more, and what each branch must hold."""

    def __init__(self, top: Path) -> None:
        generator = np.random.default_rng(0)
        base = {f"layer{i}": generator.standard_normal((16, 64)).astype(np.float32) for i in range(3)}
        self.sources: dict[str, Tensors] = {"base": base}
        self.sources |= {f"expert{i}": fine_tuned(base, i) for i in range(4)}
        for name, tensors in self.sources.items():
            (top / name).mkdir()
            (top / name / "model.safetensors").write_bytes(safetensors_bytes(tensors))
        self.top = top
        self.root = top / "repo"
        Repo.init(self.root, Config(block_elements=64, pack_bytes=8000))
        self.expected: dict[str, Tensors] = {}
        for name in ("base", "expert0"):
            self.run(self.adding(name))
            self.expected[name] = self.sources[name]

    def adding(self, name: str) -> list[str]:
        base = [] if name == "base" else ["--base", "base"]
        return ["add", str(self.top / name), "--branch", name, *base]

    def any_command(self, randomly: random.Random) -> tuple[list[str], str | None]:
        """A command, and the branch that it makes or removes."""
        experts = sorted(name for name in self.expected if name.startswith("expert"))
        choice = randomly.random()
        if choice < 0.4:
            name = f"expert{randomly.randrange(4)}"
            return self.adding(name), name
        if choice < 0.7 and experts:
            chosen = [f"--expert={name}:weight=.{randomly.randint(1, 9)}" for name in experts]
            return [
                "merge",
                "--base",
                "base",
                *chosen,
                "--op",
                "task_arithmetic",
                "--branch",
                "merged",
            ], "merged"
        if choice < 0.8 and len(experts) > 1:
            name = randomly.choice(experts)
            return ["branch", "-d", name], name
        level = ["--compression", "max"] if randomly.random() < 0.3 else []
        return ["gc", "--keep-reflog", "0", "--repack", *level], None

    def run(self, words: list[str]) -> None:
        Inline(self.root)(*words)

    def run_and_kill(self, words: list[str], number: int, microseconds: int) -> bool:
        """Kill it that long after so many operations; whether it had ended by itself."""
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "tests.killed_command",
                str(number),
                str(microseconds),
                *words,
            ],
            cwd=ROOT,
            env=clean_environment({"MP_DIR": str(self.root / ".mp")}),
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), (words, done.stderr)
        return done.returncode == 0

    def found(self) -> dict[str, Tensors]:
        repository = mpstore.Repository.open(self.root)
        return {
            branch.name: {key: np.array(array) for key, array in repository.tensors(branch.name).items()}
            for branch in repository.branches()
        }

    def check(self, words: list[str], branch: str | None) -> None:
        """All but the branch in question is as it was, and everything is whole."""
        found = self.found()
        assert found.keys() - {branch} == self.expected.keys() - {branch}, words
        for name in found.keys() & self.expected.keys():
            if name != branch:
                assert_same(found[name], self.expected[name])
        if branch in self.sources and branch in found:
            assert_same(found[branch], self.sources[branch])
        report = mpstore.Repository.open(self.root).fsck(read_data=True)
        assert report.damage == (), words

    def complete(self, words: list[str], branch: str | None) -> None:
        """Run the command again, unharmed."""
        gone = words[0] == "branch" and branch not in self.found()
        if not gone:
            self.run(words)
        found = self.found()
        if branch is not None:
            assert (branch in found) == (words[0] != "branch")
            self.expected.pop(branch, None)
            if branch in found:
                self.expected[branch] = found[branch]
        self.check(words, branch)


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def kill_often(top: Path, times: int, seed: int) -> int:
    workshop = Workshop(top)
    randomly = random.Random(seed)
    killed = 0
    for number in range(times):
        words, branch = workshop.any_command(randomly)
        try:
            number = randomly.randint(1, 3 if words[0] == "branch" else 60)
            killed += not workshop.run_and_kill(words, number, randomly.randint(0, 3000))
            workshop.check(words, branch)
            workshop.complete(words, branch)
        except BaseException as error:
            error.add_note(f"kill {number}: {words}")
            raise
    mpstore.Repository.open(workshop.root).gc(keep_reflog_seconds=0, repack=True)
    layout = Repo.open(workshop.root).objects.layout
    assert os.listdir(layout.sessions) == os.listdir(layout.trash) == os.listdir(layout.tmp) == []
    print(f"mp add, merge, branch, gc: {times} commands, {killed} of them killed before their end")
    return killed


def test_invariant_05_a_killed_command_loses_nothing_and_can_be_run_again(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 2, seed=4) > 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_invariant_05_commands_killed_often_lose_nothing(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 150, seed=1000) > 75
