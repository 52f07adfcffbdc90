"""The comparison of policies runs, tiny, as the page on planning says it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_comparison_of_policies_runs(tmp_path: Path) -> None:
    script, out, picture = ROOT / "examples/bench/policies.py", tmp_path / "out.json", tmp_path / "out.png"
    subprocess.run(
        [sys.executable, script, "--smoke", "--pairs", "--out", out, "--plot", picture],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    found = json.loads(out.read_text())
    assert {row["policy"] for row in found["planning"]} == set(found["error_over_best"])
    certified = [row for row in found["rows"] if row["bound_kind"] == "certificate"]
    assert certified
    assert all(row["relative_error"] <= row["relative_bound"] for row in certified)
    assert picture.read_bytes().startswith(b"\x89PNG")
