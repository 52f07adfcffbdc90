"""The benchmark scripts run, small, and their figures are what they say they are. No timings are judged."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpstore.kernels import native

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "examples" / "bench"

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.timeout(900)  # tens of processes
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="bytes are counted as Linux does")


def smoke(tmp_path: Path, *words: str, **extra: str) -> dict[str, Any]:
    """Run a script with --smoke; its JSON. The picture must be one and the table must have rows."""
    out, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    done = subprocess.run(
        [
            sys.executable, str(BENCH / words[0]), *words[1:], "--smoke",
            "--out", str(out), "--plot", str(picture), "--scratch", str(tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **extra},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "|---|" in done.stdout
    found: dict[str, Any] = json.loads(out.read_text())
    assert found["machine"]["cores"] >= 1
    return found


def naive_and_budgeted(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    naive = [row for row in rows if row["way"] == "naive"]
    return naive, [row for row in rows if row["way"] != "naive"]


@linux_only
def test_bytes_are_those_of_the_system_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    measured = importlib.import_module("measured")
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(300_000))
    program = tmp_path / "copy.py"
    program.write_text(
        "import os, sys, threading\n"
        "def copy():\n"
        "    with open(sys.argv[1], 'rb') as file, open(sys.argv[2], 'wb') as out:\n"
        "        out.write(os.pread(file.fileno(), 200_000, 50_000))\n"
        "thread = threading.Thread(target=copy)\nthread.start()\nthread.join()\n"
    )
    moved, _ = measured.traffic([sys.executable, program, source, target])
    if shutil.which("strace"):
        assert moved.read_bytes[str(source)] == moved.write_bytes[str(target)] == 200_000
    monkeypatch.setattr(measured.shutil, "which", lambda _: None)
    moved, _ = measured.traffic([sys.executable, program, source, target])
    assert moved.how == "/proc/self/io"
    assert 200_000 <= moved.read_bytes[""] < 3_000_000  # the interpreter's own reads are in it
    assert 200_000 <= moved.write_bytes[""] < 300_000


@pytest.mark.slow
@linux_only
def test_operators_give_what_the_naive_merge_gives(tmp_path: Path) -> None:
    rows = smoke(tmp_path, "paper.py", "operators")["rows"]
    naive, budgeted = naive_and_budgeted(rows)
    assert {row["operator"] for row in naive} == {"ties"}
    assert [(row["way"], row["exact"], row["deviation"]) for row in budgeted] == [("mp, 100 %", True, 0)]
    if shutil.which("strace"):
        assert all(row["expert_bytes"] >= row["raw_bytes"] for row in naive)
        assert all(row["counted_expert_bytes"] <= row["expert_bytes"] for row in budgeted)
        assert all(row["expert_bytes"] < row["raw_bytes"] / 2 for row in budgeted)


@pytest.mark.slow
@linux_only
def test_bytes_are_counted_without_strace_too(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    rows = smoke(tmp_path, "paper.py", "experts", PATH=str(tools))["rows"]
    assert {row["how"] for row in rows} == {"/proc/self/io"}
    assert all(row["expert_bytes"] >= row["raw_bytes"] for row in rows if row["way"] == "naive")
    assert all(row["expert_bytes"] > 0 for row in rows)


@pytest.mark.slow
@linux_only
def test_budget_is_kept_at_the_system_call(tmp_path: Path) -> None:
    _, budgeted = naive_and_budgeted(smoke(tmp_path, "paper.py", "budget")["rows"])
    assert [row["budget_percent"] for row in budgeted] == [20, 100]
    assert all(row["counted_expert_bytes"] <= row["planned_bytes"] <= row["budget_bytes"] for row in budgeted)
    assert budgeted[-1]["deviation"] == 0


@pytest.mark.slow
@linux_only
def test_identical_runs_give_identical_ids(tmp_path: Path) -> None:
    rows = smoke(tmp_path, "paper.py", "repeat")["rows"]
    assert len(rows) == 2
    assert len({(row["manifest"], row["plan"]) for row in rows}) == 1


@pytest.mark.slow
@linux_only
def test_overheads_and_blocks_run(tmp_path: Path) -> None:
    overheads = smoke(tmp_path, "paper.py", "overheads")["rows"]
    assert all(row["value"] > 0 for row in overheads)
    blocks = smoke(tmp_path, "paper.py", "blocks")["rows"]
    assert [row["block_kibielements"] for row in blocks] == [16, 64]
    assert all(row["exact"] or row["bound"] > 0 for row in blocks)


@pytest.mark.slow
@linux_only
def test_archive_and_iterations_run(tmp_path: Path) -> None:
    archive = smoke(tmp_path, "archive.py")
    mp = next(row for row in archive["rows"] if row["tool"] == "mp default")
    assert 0 < mp["stored_bytes"] < archive["raw_bytes"] / 2
    iterations = smoke(tmp_path, "iterations.py")["rows"]
    assert len(iterations) == 2
    assert all(0 < row["mp"] < row["plain"] for row in iterations)
    assert iterations[1]["new_blocks"] < iterations[0]["new_blocks"]


@pytest.mark.slow
@linux_only
def test_merges_are_timed_in_as_many_threads_as_asked(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = [sys.executable, str(BENCH / "merge_speed.py"), "--smoke", "--operators", "linear", "ties"]
    words += ["--threads", "1", "3", "--out", str(out)]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    rows = json.loads(out.read_text())["rows"]
    asked = [("linear", 1), ("linear", 3), ("ties", 1), ("ties", 3)]
    assert [(row["operator"], row["threads"]) for row in rows] == asked
    assert all(0 < row["expert_read_bytes"] < row["full_raw_bytes"] for row in rows)
    assert all(row["written_bytes"] > 0 for row in rows)  # no output block was there already


def test_every_kernel_is_timed_in_every_variant(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = [sys.executable, str(BENCH / "kernels.py"), "--smoke", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if not native.variants():
        assert "no compiled kernels here" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(out.read_text())
    assert {"blake3", "sha256 of 2", "statistics", "tiers, decode"} <= set(found)
    for figures in found.values():
        assert set(figures) == set(native.variants())
        assert all(0 < figure < 1e6 for figure in figures.values())


@pytest.mark.slow
def test_deviation_and_accuracy_over_the_budget(tmp_path: Path) -> None:
    """Table 7: the bound holds, all of the budget is exact, and a merge knows more than its base does."""
    script = ROOT / "examples" / "digits" / "run.py"
    done = subprocess.run(
        [sys.executable, str(script), "--smoke", "--output", str(tmp_path / "digits")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digits" / "budget.png").read_bytes().startswith(b"\x89PNG")
    points = json.loads((tmp_path / "digits" / "budget.json").read_text())
    assert [point["budget_percent"] for point in points] == [0, 25, 100]
    for point in points:
        assert point["read_bytes"] <= point["full_raw_bytes"] * point["budget_percent"] / 100
        assert point["relative_error"] <= point["relative_bound"]
    nothing, some, everything = points
    assert nothing["relative_error"] > some["relative_error"] > everything["relative_error"] == 0
    assert everything["exact"]
    assert sum(everything["accuracies"]) > sum(nothing["accuracies"])
