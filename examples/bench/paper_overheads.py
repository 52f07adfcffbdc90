"""What of a merge is not merging: starting, planning, metadata, the commit.

Relies on cProfile around the real command. It slows Python code, so the parts are upper ends; the whole is
the wall time of runs without it.
"""

from __future__ import annotations

import pstats
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import measured
from measured import MP
from paper_family import Family, Operation, budgeted, fresh, words

# What is timed inside the process: (shown as, end of the file's name, function).
_PARTS = (
    ("planning", "merge/engine.py", "prepare"),
    ("reading, merging, writing blocks", "merge/execute/execution.py", "execute"),
    ("commit: records, fsync, ref", "mpstore/repository.py", "advance"),
)


def shares(family: Family, operation: Operation, budget: str, runs: int) -> Iterator[tuple[str, float, str]]:
    """(what, value, unit) for one merge at a budget."""
    names = family.experts[:8]
    row = budgeted(family, operation, names, budget, runs)
    yield "whole command, wall", row["wall_seconds"], "s"
    yield "starting: mp --version", statistics.median(_start() for _ in range(runs)), "s"
    profiles = [_profile(family, operation, names, budget) for _ in range(runs)]
    for part, *_ in _PARTS:
        yield part, statistics.median(found[part] for found in profiles), "s"
    total = row["read_bytes"] + row["written_bytes"]
    metadata = row["expert_bytes"] - row["counted_expert_bytes"]
    yield "read of experts' packs that is no block (records, statistics)", metadata, "bytes"
    yield "the same, of all bytes moved", 100 * metadata / total, "%"
    index = sum(path.stat().st_size for path in family.repository.rglob("*.idx"))
    raw = family.raw_bytes(["base", *family.experts])
    yield "indexes on disk, of raw", 100 * index / raw, "%"
    stats = measured.run([*MP, "-C", family.repository, "stats", "--json"]).document["stats_bytes"]
    yield "statistics on disk, of raw", 100 * stats / raw, "%"


def _start() -> float:
    return measured.run([*MP, "--version"]).seconds


def _profile(family: Family, operation: Operation, names: list[str], budget: str) -> dict[str, float]:
    """Seconds of each part, from the command's own process."""
    target = family.scratch / "profile"
    merge = ["merge", *words(operation, names, budget), "--branch", "merged", "--json"]
    repository = fresh(family)
    measured.forget_cache()
    command = [sys.executable, "-m", "cProfile", "-o", target, "-m", "mpstore.cli", "-C", repository, *merge]
    if "manifest" not in measured.run(command).document:
        raise SystemExit("the profiled merge failed")
    found = {}
    for (file, _, function), figures in pstats.Stats(str(target)).stats.items():  # type: ignore[attr-defined]
        for part, where, name in _PARTS:
            if Path(file).as_posix().endswith(where) and function == name:
                found[part] = figures[3]
    return found
