"""How fast a merge is: wall time and peak memory, cold cache, beside the floor and beside mergekit.

    python examples/bench/merge_speed.py FAMILY [--experts 8] [--operators linear ties dare_ties] [--runs 3]
        [--repository DIR] [--memory SIZE] [--threads 1 2 4] [--mergekit COMMAND] [--out F.json]
    python examples/bench/merge_speed.py --smoke

FAMILY has `base` and one directory for each expert. Every run is a process of its own on a repository that
holds the family, budget 100 %, with the memo deleted and other weights than the run before, so nothing is
found again. In a repository of its own making it also tells what adding everything and checking the merge
out took: from plain directories to a plain directory. The floor of a run is reading the bytes it read with
`cat` and writing the bytes it wrote with `dd … conv=fsync`, cold, in the same round. `--mergekit` (such as
`.venv/bin/mergekit-yaml`) runs the same recipe there on the plain directories. `--threads` tells how it grows
with the processors: each operator in so many threads, in turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured
from measured import MP

DENSITY = 0.2


def weight_of(expert: int, turn: int) -> float:
    """Different in every run, so that no output block is there already."""
    return round(1.0 + 0.01 * expert + 0.001 * turn, 4)


def fill(family: Path, repository: Path, experts: Sequence[Path]) -> float:
    """Seconds of adding everything from a cold cache."""
    measured.run([*MP, "-q", "init", repository])
    measured.forget_cache()
    return measured.run(
        [*MP, "-q", "-C", repository, "add", family / "base", *experts, "--base", "base"]
    ).seconds


def empty(repository: Path, operator: str) -> float:
    """Seconds of checking the merge out."""
    out = repository / "out"
    measured.forget_cache()
    done = measured.run([*MP, "-q", "-C", repository, "checkout", f"speed-{operator}", out])
    shutil.rmtree(out)
    return done.seconds


def merge(
    repository: Path, operator: str, experts: Sequence[Path], turn: int, flags: Sequence[str]
) -> dict[str, Any]:
    """One merge: its document with the process's seconds and peak memory."""
    shutil.rmtree(repository / ".mp" / "cache" / "memo", ignore_errors=True)
    words: list[str | Path] = [*MP, "--json", "-C", repository, "merge", "--base", "base", "--op", operator]
    for number, expert in enumerate(experts):
        density = "" if operator == "linear" else f",density={DENSITY}"
        words += ["--expert", f"{expert.name}:weight={weight_of(number, turn)}{density}"]
    words += ["--branch", f"speed-{operator}", *flags]
    measured.forget_cache()
    done = measured.run(words)
    return {**done.document, "wall_seconds": done.seconds, "peak_bytes": done.peak_bytes}


def floor(repository: Path, read_bytes: int, written_bytes: int) -> float:
    """Seconds of reading so many bytes of the packs with `cat`, and writing so many with `dd`."""
    packs = sorted((repository / ".mp" / "objects" / "packs").glob("*.pack"))
    measured.forget_cache()
    inner = 'cat "$@" | head -c "$BYTES" > /dev/null'
    read = measured.run(["sh", "-c", inner, "sh", *packs], BYTES=str(read_bytes))
    target = repository / "floor"
    blocks = max(1, written_bytes >> 20)
    words = ["dd", "if=/dev/zero", f"of={target}", "bs=1M", f"count={blocks}", "conv=fsync", "status=none"]
    written = measured.run(words)
    target.unlink()
    return read.seconds + written.seconds


def recipe(operator: str, family: Path, experts: Sequence[Path]) -> dict[str, Any]:
    """The same merge for mergekit."""
    models = []
    for number, expert in enumerate(experts):
        own = {"weight": weight_of(number, 0)} | ({} if operator == "linear" else {"density": DENSITY})
        models.append({"model": str(expert), "parameters": own})
    found: dict[str, Any] = {"merge_method": operator, "models": models, "dtype": "bfloat16"}
    return found if operator == "linear" else {**found, "base_model": str(family / "base")}


def mergekit(command: str, operator: str, family: Path, experts: Sequence[Path]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=family.parent) as folder:
        path = Path(folder, "recipe.yml")
        path.write_text(json.dumps(recipe(operator, family, experts)))  # JSON is YAML
        measured.forget_cache()
        done = measured.run([command, path, Path(folder, "out")])
        return {"wall_seconds": done.seconds, "peak_bytes": done.peak_bytes}


def compare(options: argparse.Namespace, family: Path, repository: Path) -> dict[str, Any]:
    experts = measured.experts_of(family)[: options.experts]
    added = None if (repository / ".mp").is_dir() else fill(family, repository, experts)
    rows = []
    for number, (operator, threads) in enumerate(itertools.product(options.operators, options.threads)):
        flags = [] if options.memory is None else ["--memory", options.memory]
        flags += [] if threads is None else ["--threads", str(threads)]
        runs = []
        for turn in range(number * options.runs, (number + 1) * options.runs):
            done = merge(repository, operator, experts, turn, flags)
            read = done["expert_read_bytes"] + done["base_read_bytes"]
            done["floor_seconds"] = floor(repository, read, done["written_bytes"])
            runs.append(done)
        row = {**summary(operator, runs), "threads": threads}
        if added is not None:
            checkout = empty(repository, operator)
            row["from_directories"] = {
                "add_seconds": added,
                "checkout_seconds": checkout,
                "seconds": added + row["wall_seconds"] + checkout,
            }
        if options.mergekit:
            row["mergekit"] = mergekit(options.mergekit, operator, family, experts)
        print(told(row), flush=True)
        rows.append(row)
    return {"machine": measured.machine(), "experts": len(experts), "rows": rows}


def summary(operator: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def median(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    return {
        "operator": operator,
        "wall_seconds": median("wall_seconds"),
        "all_seconds": [run["wall_seconds"] for run in runs],
        "floor_seconds": median("floor_seconds"),
        "over_floor": statistics.median(run["wall_seconds"] / run["floor_seconds"] for run in runs),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "expert_read_bytes": runs[-1]["expert_read_bytes"],
        "base_read_bytes": runs[-1]["base_read_bytes"],
        "written_bytes": median("written_bytes"),
        "full_raw_bytes": runs[-1]["full_raw_bytes"],
    }


def told(row: dict[str, Any]) -> str:
    threads = "" if row["threads"] is None else f"{row['threads']:3} threads "
    text = (
        f"{row['operator']:12} {threads}{row['wall_seconds']:7.1f} s  {row['over_floor']:5.1f} x the floor "
        f"of {row['floor_seconds']:.1f} s  {row['peak_bytes'] / 1e6:6.0f} MB"
    )
    if "from_directories" in row:
        text += f"   with adding all and checking out {row['from_directories']['seconds']:.1f} s"
    other = row.get("mergekit")
    if other is None:
        return text
    return text + f"   mergekit {other['wall_seconds']:.1f} s, {other['peak_bytes'] / 1e6:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", type=Path, nargs="?")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--operators", nargs="+", default=["linear", "ties", "dare_ties"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--repository", type=Path, help="keep it here; one that is there is used as it is")
    parser.add_argument("--memory")
    parser.add_argument("--threads", type=int, nargs="+", default=[None])
    parser.add_argument("--mergekit")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=None if options.family is None else options.family.parent) as folder:
        family = None if options.family is None else options.family.resolve()  # commands run elsewhere, too
        if options.smoke:
            family, options.runs, options.experts = measured.small_family(Path(folder, "family")), 1, 3
        if family is None:
            parser.error("name a family, or --smoke")
        found = compare(options, family, options.repository or Path(folder, "repository").resolve())
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
