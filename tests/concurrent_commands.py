"""One process of many that add, merge, delete and collect garbage in one repository through the public
interface, and check that what they made and did not delete is whole.
`python -m tests.concurrent_commands TOP NUMBER SECONDS SEED`; the repository is TOP/repo.

Tensors come from a small pool that all share, so that one keeps finding blocks that another's gc is about to
remove. Prints one JSON document: what was done, and a digest of what each branch must hold at the end.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import mpstore
from mpstore.records.config import Config
from mpstore.repository import Repo
from tests.families import fine_tuned, safetensors_bytes

POOL = 6
LEAST = 12  # actions, however slow the machine is
LEVELS = (None, None, "fast", "max")


def base_tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {f"layer{i}": generator.standard_normal((8, 32)).astype(np.float32) for i in range(3)}


def make_repository(top: Path) -> None:
    Repo.init(top / "repo", Config(block_elements=64, pack_bytes=8000))
    add(top, "base", "base", base_tensors())


def add(
    top: Path, branch: str, name: str, tensors: Mapping[str, np.ndarray], base: str | None = None
) -> None:
    source = top / name
    source.mkdir()
    (source / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    mpstore.Repository.open(top / "repo").add(source, branch, base=base, threads=1)
    shutil.rmtree(source)


def digest(repository: mpstore.Repository, branch: str) -> str:
    hasher = hashlib.sha256()
    for key, array in sorted(repository.tensors(branch).items()):
        hasher.update(key.encode() + np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


class Worker:
    """expected: branch -> digest of its tensors."""

    def __init__(self, top: Path, number: int, seed: int) -> None:
        self.top = top
        self.number = number
        self.random = random.Random(seed)
        self.expected: dict[str, str] = {}
        self.done: Counter[str] = Counter()

    def opened(self) -> mpstore.Repository:
        return mpstore.Repository.open(self.top / "repo")

    def add(self) -> None:
        """An expert: each tensor is the base's or one of a few fine-tunes of it."""
        branch = f"w{self.number}-{self.random.randrange(4)}"
        pool = [base_tensors(), *(fine_tuned(base_tensors(), i) for i in range(POOL))]
        tensors = {key: self.random.choice(pool)[key] for key in base_tensors()}
        base = self.random.choice(["base", "base", *self.expected])
        add(self.top, branch, f"source{self.number}", tensors, base)
        hasher = hashlib.sha256()
        for key, array in sorted(tensors.items()):
            hasher.update(key.encode() + array.tobytes())
        self.expected[branch] = hasher.hexdigest()

    def merge(self) -> None:
        experts = sorted(name for name in self.expected if "merged" not in name)
        if not experts:
            return
        branch = f"w{self.number}-merged"
        chosen = [f"{name}:weight=.{self.random.randint(1, 9)}" for name in experts]
        repository = self.opened()
        repository.merge(branch, base="base", experts=chosen, operator="task_arithmetic", threads=1)
        self.expected[branch] = digest(self.opened(), branch)
        assert self.opened().replay(branch).same

    def delete(self) -> None:
        if self.expected:
            branch = self.random.choice(sorted(self.expected))
            self.opened().delete_branch(branch)
            del self.expected[branch]

    def collect(self) -> None:
        level = self.random.choice(LEVELS)
        self.opened().gc(keep_reflog_seconds=0, repack=self.random.random() < 0.7, compression=level)

    def verify(self) -> None:
        repository = self.opened()
        for branch, expected in self.expected.items():
            assert digest(repository, branch) == expected, f"{branch} is not what it was"

    def work(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        actions = [self.add, self.merge, self.delete, self.collect, self.verify]
        while time.monotonic() < end or self.done.total() < LEAST:
            action = self.random.choices(actions, [5, 3, 3, 3, 1])[0]
            action()
            self.done[action.__name__] += 1
        self.verify()


def main() -> None:
    top, number, seconds, seed = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    worker = Worker(top, number, seed)
    worker.work(seconds)
    json.dump({"done": worker.done, "expected": worker.expected}, sys.stdout)


if __name__ == "__main__":
    main()
