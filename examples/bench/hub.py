"""Pulling from a Hub on loopback, beside `mp add` of the same files; what a pull keeps on disk and in memory.

    python examples/bench/hub.py DIR [--runs 3] [--mebibytes 256,1024] [--smoke] [--json FILE]

DIR is a checkpoint (--smoke: none is needed). The tests' Hub sends its bytes from memory. In turns, in fresh
repositories and processes, run `mp add DIR` and `mp pull` of the same files: medians, ratio, peak memory.
Then one file of each of the sizes (random bf16 weights, which hardly compress) is pulled while a thread
looks at the disk: the peak of all files beside the store's packs, with HF_HOME and TMPDIR; peak memory.
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
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from disk_watch import DiskWatch  # noqa: E402
from hub.server import Files, TestHub  # noqa: E402

LAUNCHER = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([status, time.monotonic() - began, usage.ru_maxrss * unit]))
"""


def timed(words: list[str], directory: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds and peak bytes of a command. A small process starts it: a child begins at its parent's peak."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "mpstore.cli.main", "-q", *words]
    done = subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    status, seconds, peak = json.loads(done.stdout)
    if status:
        raise SystemExit(f"mp {' '.join(words)} failed")
    return seconds, peak


def environment_of(hub: TestHub, scratch: Path) -> dict[str, str]:
    """Every place that a client might leave something is in `scratch`."""
    places = {"HF_HOME": scratch / "hf", "TMPDIR": scratch / "tmp"}
    for path in places.values():
        path.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        **{name: str(path) for name, path in places.items()},
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
    }


def beside_add(source: Path, runs: int) -> dict[str, Any]:
    """`mp pull` and `mp add` of the same files, in turns."""
    files = {p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    figures: dict[str, list[tuple[float, int]]] = {"add": [], "pull": []}
    with TestHub() as hub, tempfile.TemporaryDirectory() as scratch:
        hub.put("org/model", files)
        environment = environment_of(hub, Path(scratch))
        for run in range(runs):
            for what, words in (
                ("add", ["add", str(source), "--branch", "m"]),
                ("pull", ["pull", "hf://org/model"]),
            ):
                directory = Path(scratch, f"{what}{run}")
                directory.mkdir()
                timed(["init"], directory, environment)
                figures[what].append(timed(words, directory, environment))
                shutil.rmtree(directory)
    result: dict[str, Any] = {
        what: {
            "seconds": statistics.median(seconds for seconds, _ in found),
            "peak_memory_bytes": max(peak for _, peak in found),
        }
        for what, found in figures.items()
    }
    ratio = result["pull"]["seconds"] / result["add"]["seconds"]
    return {"raw_bytes": sum(map(len, files.values())), "runs": runs, **result, "pull_over_add": ratio}


def random_checkpoint(mebibytes: int) -> Files:
    """One safetensors file of that size, in tensors of at most 64 MiB."""
    from families import safetensors_bytes

    rng = np.random.default_rng(mebibytes)
    tensors, left = {}, mebibytes << 20
    while left:
        size = min(left, 64 << 20)
        mantissas = rng.integers(0, 1 << 16, size // 2, np.uint16)
        tensors[f"layer{len(tensors)}.weight"] = (mantissas & 0x83FF | 0x3C00).view(_bfloat16())
        left -= size
    return {"model.safetensors": safetensors_bytes(tensors), "config.json": b"{}"}


def _bfloat16() -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def pull_watched(mebibytes: int) -> dict[str, Any]:
    """A pull of one file of that size: peaks of the disk beside the store, and of memory."""
    files = random_checkpoint(mebibytes)
    with TestHub() as hub, tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        hub.put("org/model", files)
        environment = environment_of(hub, scratch)
        work = scratch / "work"
        work.mkdir()
        timed(["init"], work, environment)
        with DiskWatch(work / ".mp", [scratch / "hf", scratch / "tmp"]) as watch:
            seconds, peak = timed(["pull", "hf://org/model"], work, environment)
        return {
            "raw_bytes": sum(map(len, files.values())),
            "seconds": seconds,
            "peak_memory_bytes": peak,
            "extra_disk_bytes": watch.extra_bytes,
            "staged_pack_bytes": watch.staged_bytes,
            "over_final_disk_bytes": watch.over_final_bytes,
            "looks": watch.looks,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mebibytes", default="256,1024", help="sizes of the watched pulls")
    parser.add_argument("--smoke", action="store_true", help="small, and without a checkpoint")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if chosen.smoke:
        chosen.mebibytes = "48,144"
    elif chosen.checkpoint is None:
        parser.error("name a checkpoint, or say --smoke")
    document: dict[str, Any] = {}
    if chosen.checkpoint is not None:
        document = beside_add(chosen.checkpoint.resolve(), chosen.runs)
        print(f"{document['raw_bytes'] / 1e6:.0f} MB, median of {chosen.runs}")
        for what in ("add", "pull"):
            seconds, peak = document[what]["seconds"], document[what]["peak_memory_bytes"]
            print(f"{what:>5}  {seconds:6.2f} s  {peak / 1e6:6.0f} MB peak")
        print(f"pull / add = {document['pull_over_add']:.2f}")
    rows = [pull_watched(int(size)) for size in chosen.mebibytes.split(",")]
    document["watched"] = rows
    document["memory_over_size_ratio"] = rows[-1]["peak_memory_bytes"] / rows[0]["peak_memory_bytes"]
    print("\n|pulled file|memory, peak|disk beside the store, peak|over the final store|seconds|")
    print("|---|---|---|---|---|")
    for row in rows:
        disk, over = row["extra_disk_bytes"] / 1e6, row["over_final_disk_bytes"] / 1e6
        memory, size = row["peak_memory_bytes"] / 1e6, row["raw_bytes"] / 1e6
        print(f"|{size:.0f} MB|{memory:.0f} MB|{disk:.1f} MB|{over:.1f} MB|{row['seconds']:.2f}|")
    if chosen.json:
        chosen.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
