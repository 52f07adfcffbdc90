"""Invariant 7 where it counts: at the system call, of the real command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from merge_material import family, forget

ROOT = Path(__file__).parents[3]
CALL = re.compile(r"(?:pread64|read|preadv2?|readv)\(\d+<([^>]*)>.*= (\d+)$")
OWNER = re.compile(r"\.pack$")

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")


def pack_reads(trace: str) -> Counter[str]:
    """Bytes that system calls took from each pack, and the mappings of packs (there must be none)."""
    found: Counter[str] = Counter()
    for line in trace.splitlines():
        if "mmap(" in line and ".pack>" in line:
            found["mapped"] += 1
        match = CALL.search(line)
        if match is not None and OWNER.search(match[1]):
            found["bytes"] += int(match[2])
    return found


@pytest.mark.parametrize("operator", ["linear", "ties"])
def test_invariant_07_system_calls_read_no_more_than_budget_and_base(tmp_path: Path, operator: str) -> None:
    repo = family(tmp_path, block_elements=64)
    for budget in ("5%", "30%"):
        forget(repo)
        trace = tmp_path / f"trace-{budget}"
        words = [
            "strace", "-f", "-y", "-e", "trace=read,pread64,preadv,preadv2,readv,mmap", "-o", str(trace),
            sys.executable, "-m", "mpstore.cli", "-C", str(Path(repo.root).parent), "--json",
            "merge", "--base", "base", "--op", operator, "--budget", budget, "--branch", f"m-{operator}",
        ]  # fmt: skip
        for name in ("e0", "e1", "e2"):
            words += ["--expert", f"{name}:weight=0.5" + ("" if operator == "linear" else ",density=0.4")]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False, cwd=ROOT)
        assert ended.returncode == 0, ended.stderr
        document = json.loads(ended.stdout)
        read = pack_reads(trace.read_text())
        assert read["mapped"] == 0
        assert document["expert_read_bytes"] <= document["planned_bytes"] <= document["budget_bytes"]
        # Records (plans, manifests, tensors, statistics) lie in packs too; they are small and not experts.
        records = sum(path.stat().st_size for path in record_packs(Path(repo.root)))
        accounted = document["expert_read_bytes"] + document["base_read_bytes"]
        assert accounted <= read["bytes"] <= accounted + records
    assert read["bytes"] > 0


def record_packs(root: Path) -> list[Path]:
    """Packs that hold records rather than blocks (the kind is in the pack's header)."""
    packs = (root / "objects" / "packs").glob("*.pack")
    return [path for path in packs if path.read_bytes()[6:8] == b"\x01\x00"]
