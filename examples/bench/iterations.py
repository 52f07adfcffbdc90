"""Twenty merges of the same experts with different weights, kept: what each costs in `mp`, borg, plain files.

    python examples/bench/iterations.py FAMILY [--merges 20] [--operator task_arithmetic] [--out F.json]
        [--plot F.png] [--smoke]

Half of the merges change the weight of every expert, the other half that of one expert in the upper half of
the layers only, as somebody does who tunes a merge by hand. Each is committed on one branch; the same output
is checked out and given to borg (zstd 1, one repository for all) where it is installed, and counts in full as
plain files. Bytes are every file of the repository, before and after.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import measured
from measured import MP

BORG = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}


def recipe(folder: Path, operator: str, number: int) -> str:
    """Number // 2 decides the weights; odd numbers tune the first expert in the upper layers."""
    experts = [path.name for path in measured.experts_of(folder)]
    lines = [f"merge_method: {operator}", "base_model: base", "models:"]
    for place, name in enumerate(experts):
        weight = round(0.3 + 0.02 * ((number // 2 + 3 * place) % 11), 3)
        value = f"{weight}"
        if number % 2 and place == 0:
            value = f"[{weight}, {weight}, {weight}, {weight + 0.05:.3f}, {weight + 0.05:.3f}]"
        lines += [f"  - model: {name}", "    parameters:", f"      weight: {value}"]
    return "\n".join(lines) + "\n"


class Growth:
    """A repository's size, and how much it grew since the last look."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, measured.stored_bytes(path)

    def step(self) -> int:
        before, self.size = self.size, measured.stored_bytes(self.path)
        return self.size - before


def measure(folder: Path, operator: str, merges: int, scratch: Path) -> dict[str, Any]:
    """One row a merge: the bytes that keeping it took."""
    mp, borg = scratch / "mp", scratch / "borg"
    extra = {**BORG, "BORG_BASE_DIR": str(scratch / "borg-own")}
    measured.run([*MP, "-q", "init", mp])
    measured.run([*MP, "-q", "-C", mp, "add", folder / "base", "--branch", "base"])
    for expert in measured.experts_of(folder):
        measured.run([*MP, "-q", "-C", mp, "add", expert, "--branch", expert.name, "--base", "base"])
    grown = {"mp": Growth(mp)}
    if shutil.which("borg"):
        measured.run(["borg", "init", "-e", "none", borg], **extra)
        measured.run(["borg", "create", "-C", "zstd,1", f"{borg}::family", folder], **extra)
        grown["borg"] = Growth(borg)
    rows = []
    for number in range(merges):
        path, out = scratch / "recipe.yml", scratch / "merged"
        path.write_text(recipe(folder, operator, number))
        words = [*MP, "-C", mp, "merge", path, "--branch", "merged", "--json"]
        merged = measured.run(words)
        measured.run([*MP, "-q", "-C", mp, "checkout", "merged", out])
        if "borg" in grown:
            measured.run(["borg", "create", "-C", "zstd,1", f"{borg}::merge{number}", out], **extra)
        row = {"merge": number + 1, "plain": measured.stored_bytes(out), "merge_seconds": merged.seconds}
        row["new_blocks"] = merged.document["new_blocks"]
        rows.append(row | {tool: one.step() for tool, one in grown.items()})
        print(rows[-1], flush=True)
        shutil.rmtree(out)
    return {"machine": measured.machine(), "family": folder.name, "operator": operator, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Markdown: medians and sums over the merges."""
    rows = result["rows"]
    lines = ["| kept as | median MB a merge | of plain | all merges MB |", "|---|---|---|---|"]
    plain = sum(row["plain"] for row in rows)
    for tool in ("plain", "borg", "mp"):
        if tool in rows[0]:
            each = [row[tool] for row in rows]
            share = sum(each) / plain
            lines.append(
                f"| {tool} | {statistics.median(each) / 1e6:.2f} | {share:.3f} | {sum(each) / 1e6:.1f} |"
            )
    return "\n".join(lines)


def plot(result: dict[str, Any], target: Path) -> None:
    """Bytes kept over merges."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    rows = result["rows"]
    for tool in ("plain", "borg", "mp"):
        if tool in rows[0]:
            sums = [sum(row[tool] for row in rows[: end + 1]) / 1e6 for end in range(len(rows))]
            axes.plot(range(1, len(rows) + 1), sums, marker="o", label=tool)
    axes.set_xlabel("merges kept")
    axes.set_ylabel("MB added to what the family takes")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(target, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", type=Path, nargs="?")
    parser.add_argument("--merges", type=int, default=20)
    parser.add_argument("--operator", default="task_arithmetic")
    parser.add_argument("--smoke", action="store_true", help="a tiny family, two merges")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--scratch", type=Path)
    chosen = parser.parse_args()
    if not chosen.smoke and chosen.family is None:
        parser.error("FAMILY is missing")
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        made = Path(scratch).resolve()
        folder = measured.small_family(made / "family") if chosen.smoke else chosen.family.resolve()
        result = measure(folder, chosen.operator, 2 if chosen.smoke else chosen.merges, made)
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.plot:
        plot(result, chosen.plot)
    print(table(result))


if __name__ == "__main__":
    main()
