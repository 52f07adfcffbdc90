"""The scripts that the page on planning names run, tiny: policies compared, a repository simulated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


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


def test_a_simulated_repository_is_planned_from_its_records_alone(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    script = [
        sys.executable,
        ROOT / "examples/bench/simulate_repository.py",
        tmp_path / "sim",
        "--experts",
        "3",
    ]
    subprocess.run([*script, "--smoke"], check=True, capture_output=True, env=env)
    experts = [word for number in range(3) for word in ("--expert", f"e{number}")]
    words = ["-C", tmp_path / "sim", "plan", "--base", "base", *experts, "--op", "linear", "--budget", "10%"]
    ended = subprocess.run(
        [sys.executable, "-m", "mpstore.cli", *words, "--json"], check=True, capture_output=True, env=env
    )
    plan = json.loads(ended.stdout)
    assert 0 < plan["planned_bytes"] <= plan["budget_bytes"] < plan["full_stored_bytes"]
    assert plan["bound_kind"] == "certificate"
    assert plan["curve"][-1]["exact"]
