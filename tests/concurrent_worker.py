"""One process of many at work on one repository: commits, deletes, merges, collects garbage, and checks that
what it committed and did not delete is whole. `python -m tests.concurrent_worker ROOT NUMBER SECONDS SEED`.

Blocks are drawn from a small pool that all workers share, so that one keeps adopting what another's gc is
about to remove. Prints one JSON document: what it did, and what must be there at the end.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter

from mpstore import gc
from mpstore.codecs import Level
from mpstore.ids import ObjectId
from mpstore.records.model import Parent
from mpstore.repository import Repo
from tests.repository_material import commit, content_of, remove_branch
from tests.store_material import bf16_block, fine_tuned

POOL = 12
LEAST = 12  # actions, however slow the machine is


def pool_content(randomly: random.Random) -> dict[str, list[bytes]]:
    blocks = []
    for _ in range(randomly.randint(1, 4)):
        block = bf16_block(randomly.randrange(randomly.choice([3, POOL])))
        blocks.append(fine_tuned(block, randomly.randrange(3)) if randomly.random() < 0.5 else block)
    return {f"t{randomly.randrange(3)}": blocks}


class Worker:
    def __init__(self, root: str, number: int, seed: int) -> None:
        self.root = root
        self.number = number
        self.random = random.Random(seed)
        self.expected: dict[str, tuple[ObjectId, dict[str, list[bytes]]]] = {}
        self.done: Counter[str] = Counter()

    def commit(self) -> None:
        branch = f"w{self.number}-{self.random.randrange(4)}"
        content = pool_content(self.random)
        base = {  # any block of the pool; often enough the one that a fine-tuned block is of
            key: [bf16_block(self.random.randrange(self.random.choice([3, POOL]))) for _ in blocks]
            for key, blocks in content.items()
        }
        repo = Repo.open(self.root)
        parents = ()
        if self.expected and self.random.random() < 0.3:
            other = self.random.choice(list(self.expected.values()))[0]
            parents = (Parent("expert", other),)
        self.expected[branch] = commit(repo, branch, content, base, parents), content

    def delete(self) -> None:
        if self.expected:
            branch = self.random.choice(list(self.expected))
            remove_branch(Repo.open(self.root), branch)
            del self.expected[branch]

    def collect(self) -> None:
        repack = self.random.random() < 0.5
        level = Level.MAX if self.random.random() < 0.2 else None
        gc.collect(Repo.open(self.root), keep_reflog_ns=0, repack_all=repack, compression=level)

    def verify(self) -> None:
        repo = Repo.open(self.root)
        for branch, (commit_id, content) in self.expected.items():
            assert repo.tip(branch) == commit_id, f"{branch} moved"
            assert content_of(repo, commit_id) == content, f"{branch} is not what was committed"

    def work(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.done.total() < LEAST:
            action = self.random.choices([self.commit, self.delete, self.collect, self.verify], [5, 3, 2, 2])[
                0
            ]
            action()
            self.done[action.__name__] += 1
        self.verify()


def main() -> None:
    root, number, seconds, seed = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    worker = Worker(root, number, seed)
    worker.work(seconds)
    expected = {branch: commit_id.hex() for branch, (commit_id, _) in worker.expected.items()}
    json.dump({"done": worker.done, "expected": expected}, sys.stdout)


if __name__ == "__main__":
    main()
