"""What the process of a command is told: how many threads its BLAS has, and who else hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command, clean_environment

VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
CODE = """
import threadpoolctl
from mpstore.cli.main import main
try:
    main(["-q", "gc"])
except SystemExit as ended:
    assert ended.code == 0
pools = threadpoolctl.threadpool_info()
print(*(pool["num_threads"] for pool in pools if pool["internal_api"] == "openblas"))
"""


def blas_threads(directory: Path, **environment: str) -> set[int]:
    """Threads of OpenBLAS in the process of a command, with these and no other settings of it."""
    kept = {name: value for name, value in clean_environment().items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=directory,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {int(word) for word in done.stdout.split()}
    return found or pytest.skip("numpy is built on another BLAS")


def test_numpy_comes_with_one_thread_and_nobody_inherits_that(mp: Command) -> None:
    hook = mp.directory / ".mp" / "hooks" / "pre-gc"
    hook.write_text("#!/bin/sh\nenv > seen\n")
    hook.chmod(0o755)
    assert blas_threads(mp.directory) == {1}
    assert "OPENBLAS_NUM_THREADS" not in (mp.directory / "seen").read_text()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="BLAS takes no more threads than processors")
@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"])
def test_what_the_user_said_of_threads_holds(mp: Command, name: str) -> None:
    assert blas_threads(mp.directory, **{name: "2"}) == {2}
