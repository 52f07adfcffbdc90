"""examples/bench/growth.py runs, and its figures are all there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "bench" / "growth.py"


@pytest.mark.slow
def test_growth_runs_in_small(tmp_path: Path) -> None:
    out, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    words = ["--smoke", "--out", str(out), "--plot", str(picture), "--scratch", str(tmp_path)]
    subprocess.run([sys.executable, str(SCRIPT), *words], check=True)
    rows = json.loads(out.read_text())
    assert {row["what"] for row in rows} == {"blocks", "commits", "branches", "moves"}
    figures = [value for row in rows for key, value in row.items() if key.endswith("_seconds")]
    assert len(figures) == 14
    assert all(0 < value < 60 for value in figures)
    assert picture.read_bytes().startswith(b"\x89PNG")
