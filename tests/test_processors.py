"""As many threads as processors that may be used, not as there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpstore import pipeline, processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_a_process_that_is_bound_to_one_processor_works_in_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from mpstore.pipeline import thread_count as n; print(n(None, 0), n(None, 5), n(3, 5))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "1 5 3\n"


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("100001 100000\n", 2),
        ("6400000 100000\n", 64),
        ("max 100000\n", 4096),
        ("", 4096),
        ("-5 100000\n", 4096),
        ("5 0\n", 4096),
        ("one two\n", 4096),
    ],
)
def test_a_container_has_the_time_that_it_is_given(tmp_path: Path, text: str, limit: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    there = processors.count(str(tmp_path / "none"))
    assert processors.count(str(tmp_path / "cpu.max")) == min(limit, there)
    assert pipeline.thread_count(None, 0) == processors.count()
