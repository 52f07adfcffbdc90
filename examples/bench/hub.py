"""Pulling from a Hub on loopback beside `mp add` of the same files.

    python examples/bench/hub.py DIR [--runs 3] [--json FILE]

DIR is a checkpoint. The tests' Hub sends its bytes from memory; in turns, in fresh repositories and
processes, run `mp add DIR` and `mp pull` of the same files. Prints medians, their ratio, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


LAUNCHER = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([status, time.monotonic() - began, usage.ru_maxrss / 1024]))
"""


def timed(words: list[str], directory: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak MB of a command. A small process starts it: a child begins at its parent's peak."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "mpstore.cli.main", "-q", *words]
    done = subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    status, seconds, peak = json.loads(done.stdout)
    if status:
        raise SystemExit(f"mp {' '.join(words)} failed")
    return seconds, peak


def main() -> None:
    from hub.server import TestHub

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    source = chosen.checkpoint.resolve()
    files = {p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    figures: dict[str, list[tuple[float, float]]] = {"add": [], "pull": []}
    with TestHub() as hub, tempfile.TemporaryDirectory() as scratch:
        hub.put("org/model", files)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
        }
        for run in range(chosen.runs):
            for what, words in (
                ("add", ["add", str(source), "--branch", "m"]),
                ("pull", ["pull", "hf://org/model"]),
            ):
                directory = Path(scratch, f"{what}{run}")
                directory.mkdir()
                timed(["init"], directory, environment)
                figures[what].append(timed(words, directory, environment))
                shutil.rmtree(directory)
    size = sum(map(len, files.values()))
    result = {
        what: {
            "seconds": statistics.median(seconds for seconds, _ in runs),
            "peak_megabytes": max(peak for _, peak in runs),
        }
        for what, runs in figures.items()
    }
    ratio = result["pull"]["seconds"] / result["add"]["seconds"]
    document = {"raw_bytes": size, "runs": chosen.runs, **result, "pull_over_add": ratio}
    if chosen.json:
        chosen.json.write_text(json.dumps(document, indent=2))
    print(f"{size / 1e6:.0f} MB, median of {chosen.runs}")
    for what, figure in result.items():
        print(f"{what:>5}  {figure['seconds']:6.2f} s  {figure['peak_megabytes']:6.0f} MB peak")
    print(f"pull / add = {ratio:.2f}")


if __name__ == "__main__":
    main()
