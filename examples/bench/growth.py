"""How opening a repository, reading one tensor and `mp log` grow with what is stored.

    python examples/bench/growth.py [--smoke] [--out growth.json] [--plot growth.png]

Every figure is the median of five fresh processes, from after the imports to the answer; the repositories are
made here, of random blocks of 64 bytes, so that a million of them fit anywhere. Cold cache is not attempted:
what grows is the work, and the index is small enough to be read once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpstore.codecs import Format
from mpstore.records.config import Config
from mpstore.records.model import Commit, FileEntry, Manifest, Parent, TensorRecord
from mpstore.repository import Repo
from mpstore.store import Hint

BLOCK = 64
TENSOR_BLOCKS = 100
REPEATS = 5

PROBES = {
    "open_and_read_tensor_seconds": """
repo = Repo.open(path)
manifest = repo.manifest(repo.commit(revisions.resolve(repo, "main")).manifest)
repo.read_tensor(manifest, "tensor.5")""",
    "resolve_prefix_seconds": """
repo = Repo.open(path)
revisions.resolve(repo, revision)""",
    "log_seconds": """
repo = Repo.open(path)
history.log(repo, "main")""",
    "log_5_seconds": """
repo = Repo.open(path)
history.log(repo, "main", 5)""",
    "list_branches_seconds": """
repo = Repo.open(path)
history.names_at(repo)""",
    "move_branch_seconds": """
repo = Repo.open(path)
tip = repo.tip("main")
repo.refs.move("heads/main", tip, tip, "again", "bench")""",
}
_PROGRAM = """
import sys, time
from mpstore import history, revisions
from mpstore.repository import Repo
import mpstore.dtypes, mpstore.codecs
path, revision = sys.argv[1:]
start = time.perf_counter()
{body}
print(time.perf_counter() - start)
"""


def with_blocks(path: Path, count: int) -> str:
    """One commit of so many blocks, in tensors of 100; returns the commit's id."""
    repo = Repo.init(path, Config(block_elements=BLOCK, compression="fast"))
    draw = np.random.default_rng(count)
    with repo.objects.writer("bench") as writer:
        records = {}
        for number in range(count // TENSOR_BLOCKS):
            data = draw.integers(0, 256, (TENSOR_BLOCKS, BLOCK), np.uint8)
            ids = b"".join(writer.put(row.data, Hint(Format.BYTES)) for row in data)
            record = TensorRecord("U8", (TENSOR_BLOCKS * BLOCK,), BLOCK, ids)
            records[f"tensor.{number}"] = repo.put(writer, record)
        header = writer.put(b"no header", Hint())
        size = 9 + count * BLOCK
        entry = FileEntry("model.safetensors", "safetensors", size, b"", header, tuple(sorted(records)))
        manifest = repo.put(writer, Manifest((entry,), dict(sorted(records.items()))))
        return repo.advance(writer, "main", None, manifest=manifest, author="bench").hex()


def with_commits(path: Path, count: int) -> str:
    """A branch of so many commits, made in sessions of fifty, as a long life leaves them."""
    repo = Repo.init(path)
    commit = Commit(b"m" * 32, (), "full", "bench", 0, "a commit", {"verb": "add"})
    own = b""
    for start in range(0, count, 50):
        with repo.objects.writer("bench") as writer:
            for number in range(start, min(start + 50, count)):
                parents = (Parent("previous", own),) if own else ()
                own = repo.put(writer, replace(commit, parents=parents, time_ns=number))
            writer.finish()
    repo.refs.move("heads/main", None, own, "bench", "bench")
    return own.hex()


def with_branches(path: Path, count: int) -> str:
    """So many branches at one commit."""
    own = with_commits(path, 1)
    repo = Repo.open(path)
    for number in range(count):
        repo.refs.move(f"heads/topic/{number}", None, bytes.fromhex(own), "bench", "bench")
    return own


def with_moves(path: Path, count: int) -> str:
    """A branch that has moved so many times."""
    own = with_commits(path, 1)
    repo = Repo.open(path)
    for _ in range(count):
        repo.refs.move("heads/main", bytes.fromhex(own), bytes.fromhex(own), "bench", "bench")
    return own


GROWTHS: dict[str, tuple[Callable[[Path, int], str], tuple[str, ...], tuple[int, ...]]] = {
    "blocks": (
        with_blocks,
        ("open_and_read_tensor_seconds", "resolve_prefix_seconds"),
        (1_000, 10_000, 100_000, 1_000_000),
    ),
    "commits": (
        with_commits,
        ("log_seconds", "log_5_seconds", "resolve_prefix_seconds"),
        (10, 100, 1_000, 10_000),
    ),
    "branches": (with_branches, ("list_branches_seconds",), (10, 100, 1_000)),
    "moves": (with_moves, ("move_branch_seconds",), (10, 100, 1_000)),
}


def measure(probe: str, path: Path, revision: str, repeats: int) -> float:
    """Median seconds of fresh processes."""
    program = _PROGRAM.format(body=PROBES[probe])
    command = [sys.executable, "-c", program, str(path), revision[:12]]
    runs = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(repeats)
    ]
    return statistics.median(map(float, runs))


def run(smoke: bool, scratch: Path) -> list[dict[str, float | int | str]]:
    """All figures: what grew, to how many, and each probe's seconds."""
    found: list[dict[str, float | int | str]] = []
    for what, (make, probes, counts) in GROWTHS.items():
        for count in counts[:2] if smoke else counts:
            path = scratch / f"{what}-{count}"
            revision = make(path, count)
            row: dict[str, float | int | str] = {"what": what, "count": count}
            row |= {
                probe: round(measure(probe, path, revision, 1 if smoke else REPEATS), 5) for probe in probes
            }
            print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            found.append(row)
    return found


def plot(rows: list[dict[str, float | int | str]], target: Path) -> None:
    """Seconds over count, both logarithmic, one line a probe."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for what, (_, probes, _) in GROWTHS.items():
        for probe in probes:
            points = [(row["count"], row[probe]) for row in rows if row["what"] == what]
            axes.loglog(
                *zip(*points, strict=True), marker="o", label=f"{probe.removesuffix('_seconds')} / {what}"
            )
    axes.set_xlabel("how many there are")
    axes.set_ylabel("seconds, beyond Python's start")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(target, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description="How opening, reading and log grow.")
    parser.add_argument("--smoke", action="store_true", help="only the two smallest sizes")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, help="draw them")
    parser.add_argument(
        "--scratch", type=Path, help="where the repositories are made (default: a temporary directory)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        rows = run(options.smoke, Path(scratch))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
