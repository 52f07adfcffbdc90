"""The evaluation of the paper behind `mp`, in shape, at a size that two cores bear: one command a figure.

    python examples/bench/paper.py experts|budget|operators|overheads|blocks|repeat FAMILY
        [--runs 3] [--out F.json] [--plot F.png] [--smoke]

FAMILY: `base` and one directory for each expert (families.py makes some). Naive is paper_naive.py, a
streaming full read of plain files, same operators, same kernels, all cores. Every timed run is a process of
its own, from a cold cache where that is permitted; bytes are those of read and write calls, under strace in
runs of their own. Deviation and accuracy over budget on trained models (Table 7) is examples/digits/run.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured
import paper_overheads
from paper_family import LINEAR, OPERATIONS, Family, Operation, budgeted, naive, stored
from paper_output import plot, table
from paper_weights import merged_weights, plain_weights, relative_deviation

Row = dict[str, Any]
ADDITIVE = OPERATIONS[0]


@dataclass(frozen=True)
class Setting:
    """What every command is told."""

    folder: Path
    scratch: Path
    runs: int
    smoke: bool


def _budgeted(setting: Setting, family: Family, operation: Operation, names: list[str], budget: Any) -> Row:
    return budgeted(family, operation, names, budget, setting.runs)


def _naive(setting: Setting, family: Family, operation: Operation, names: list[str]) -> Row:
    return naive(family, operation, names, setting.runs)


def experts(setting: Setting) -> Iterator[Row]:
    """Fig. 4: over K, naive, everything through the store, and a budget that does not grow with K."""
    family = stored(setting.folder, setting.scratch)
    budget = str(family.raw_bytes(family.experts[:1]) // 2)
    counts = [count for count in (2, 4, 8, 12, 16, 20) if count <= len(family.experts)]
    for count in counts[:1] if setting.smoke else counts:
        names = family.experts[:count]
        at = {"experts": count, "raw_bytes": family.raw_bytes(names)}
        yield {**at, "way": "naive", **_naive(setting, family, ADDITIVE, names)}
        yield {**at, "way": "mp, all", **_budgeted(setting, family, ADDITIVE, names, None)}
        yield {**at, "way": "mp, fixed budget", **_budgeted(setting, family, ADDITIVE, names, budget)}


def budget(setting: Setting) -> Iterator[Row]:
    """Fig. 6: over the budget, as a share of the experts' raw bytes; deviation from the full merge."""
    family = stored(setting.folder, setting.scratch)
    names = family.experts[:8]
    budgeted(family, ADDITIVE, names, None)
    full = merged_weights(family.scratch / "fresh")
    base = _naive(setting, family, ADDITIVE, names)
    yield {"budget_percent": 100, "way": "naive", "raw_bytes": family.raw_bytes(names), **base}
    for percent in (20, 100) if setting.smoke else (5, 10, 15, 20, 30, 40, 60, 80, 100):
        row = _budgeted(setting, family, ADDITIVE, names, f"{percent}%")
        deviation = relative_deviation(merged_weights(family.scratch / "fresh"), full)
        yield {
            "budget_percent": percent,
            "way": "mp",
            "raw_bytes": family.raw_bytes(names),
            "deviation": deviation,
            **row,
        }


def operators(setting: Setting) -> Iterator[Row]:
    """Table 4: other operators. Deviation: from the naive merge's file."""
    family = stored(setting.folder, setting.scratch)
    names = family.experts[:8]
    for operation in OPERATIONS[2:3] if setting.smoke else OPERATIONS:
        at = {"operator": operation.name, "raw_bytes": family.raw_bytes(names)}
        yield {**at, "way": "naive", **_naive(setting, family, operation, names)}
        plain = plain_weights(family.scratch / "naive")
        for percent in (100,) if setting.smoke else (15, 100):
            row = _budgeted(setting, family, operation, names, f"{percent}%")
            deviation = relative_deviation(merged_weights(family.scratch / "fresh"), plain)
            yield {**at, "way": f"mp, {percent} %", "deviation": deviation, **row}


def overheads(setting: Setting) -> Iterator[Row]:
    """Table 5: what planning, metadata and the commit take of a merge."""
    family = stored(setting.folder, setting.scratch)
    for percent in (15, 100):
        for name, value, unit in paper_overheads.shares(family, ADDITIVE, f"{percent}%", setting.runs):
            yield {"budget_percent": percent, "what": name, "value": value, "unit": unit}


def blocks(setting: Setting) -> Iterator[Row]:
    """Table 6: over the block size."""
    sizes = (16, 64) if setting.smoke else (16, 32, 64, 128, 256, 512)
    for kibi in sizes:
        family = stored(setting.folder, setting.scratch, kibi << 10)
        at = {"block_kibielements": kibi, "stored_bytes": measured.stored_bytes(family.repository / ".mp")}
        yield {**at, **_budgeted(setting, family, ADDITIVE, family.experts[:8], "15%")}


def repeat(setting: Setting) -> Iterator[Row]:
    """Fig. 7: identical runs, each in a fresh copy of the repository: the same ids, and how times spread."""
    family = stored(setting.folder, setting.scratch)
    for number in range(2 if setting.smoke else 5):
        yield {"run": number + 1, **budgeted(family, LINEAR, family.experts[:8], "15%")}


COMMANDS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    one.__name__: one for one in (experts, budget, operators, overheads, blocks, repeat)
}


def measure(command: str, setting: Setting) -> dict[str, Any]:
    before = measured.machine()
    rows = []
    for row in COMMANDS[command](setting):
        rows.append(row)
        print(".", end="", flush=True)
    print()
    if command == "repeat" and len({(row["manifest"], row["plan"]) for row in rows}) != 1:
        raise SystemExit("identical runs differ")
    load = max(before["load_1_minute"], measured.machine()["load_1_minute"])
    return {
        "command": command,
        "family": setting.folder.name,
        "runs": setting.runs,
        "machine": {**before, "load_1_minute": load},
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("family", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=3, help="medians of so many")
    parser.add_argument("--smoke", action="store_true", help="a tiny family, few points, once")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--scratch", type=Path, help="a directory on the disk to measure")
    chosen = parser.parse_args()
    if not chosen.smoke and chosen.family is None:
        parser.error("FAMILY is missing")
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        made = Path(scratch).resolve()
        folder = chosen.family.resolve() if chosen.family else measured.small_family(made / "family")
        setting = Setting(folder, made, 1 if chosen.smoke else chosen.runs, chosen.smoke)
        result = measure(chosen.command, setting)
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.plot:
        plot(result, chosen.plot)
    print(table(result))


if __name__ == "__main__":
    main()
