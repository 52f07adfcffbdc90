"""A process to be killed: commits, deletes and collects garbage without end, and says on standard output what
it is about to do and what is done. `python -m tests.killed_worker ROOT SEED`."""

from __future__ import annotations

import hashlib
import json
import random
import sys

from mpstore import gc
from mpstore.repository import Repo
from tests.concurrent_worker import pool_content
from tests.repository_material import Content, commit, content_of, remove_branch


def digest(content: Content) -> str:
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def main() -> None:
    root, randomly = sys.argv[1], random.Random(int(sys.argv[2]))
    while True:
        repo = Repo.open(root)
        branches = [name.removeprefix("heads/") for name in repo.refs.names("heads/")]
        choice = randomly.random()
        if choice < 0.55 or not branches:
            branch, content = f"b{randomly.randrange(4)}", pool_content(randomly)
            tip = repo.tip(branch)
            base = None if tip is None else content_of(repo, tip)
            say(about=branch, may=digest(content))
            commit(repo, branch, content, base)
            say(done=branch, digest=digest(content))
        elif choice < 0.7:
            branch = randomly.choice(branches)
            say(about=branch, may=None)
            remove_branch(repo, branch)
            say(done=branch, digest=None)
        else:
            gc.collect(repo, keep_reflog_ns=0, repack_all=randomly.random() < 0.5)
            say(done="", digest=None)


if __name__ == "__main__":
    main()
