"""Archiving a family: `mp` beside whichever of borg and restic is installed, and checkout beside `cp`.

    python examples/bench/archive.py FAMILY [--levels fast default small max] [--apart] [--alone] [--runs 3]
        [--out F.json] [--plot F.png]
    python examples/bench/archive.py --smoke

FAMILY has `base` and one directory for each expert. Each round takes the tools in turn, each into a
repository of its own: create it, add everything, all of it timed (borg, restic and `mp` with one command;
`--apart`: `mp` also with one for each checkpoint; `--alone`: `mp` only, cold); then one expert back out,
checked byte for byte, `cp` of it, and `cp` that is durable when it ends (`sync` of each file), as a checkout
is. Cold: the page cache was dropped before every timed command. Stored bytes are every file of the
repository.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured
from measured import MP

from mpstore.codecs import Level

BORG = {"BORG_PASSPHRASE": "", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
RESTIC = {"RESTIC_PASSWORD": "bench"}
DURABLE_CP = 'cp -r "$0" "$1" && find "$1" -type f -exec sync {} +'


class Archive:
    """One tool and the commands that fill and empty its repository."""

    def __init__(self, name: str, level: str = "", apart: bool = False) -> None:
        self.tool, self.level, self.apart = name, level, apart
        self.name = f"{name} {level}".strip() + (", one by one" if apart else "")

    def fill(self, family: Path, repository: Path) -> list[list[str | Path]]:
        """Commands that make the repository and put the family in, the base first."""
        if self.tool == "borg":
            borg = ["borg", "create", "-C", "zstd,1", f"{repository}::family", family]
            return [["borg", "init", "-e", "none", repository], borg]
        if self.tool == "restic":
            restic: list[str | Path] = ["restic", "-q", "-r", repository]
            return [[*restic, "init"], [*restic, "backup", family]]
        mp = [*MP, "-q", "-C", repository]
        models = [family / "base", *measured.experts_of(family)]
        adds = [[*mp, "add", *models, "--base", "base"]]
        if self.apart:
            adds = [
                [*mp, "add", model, *(("--base", "base") if model.name != "base" else ())] for model in models
            ]
        return [[*MP, "-q", "init", repository, "--compression", self.level], *adds]

    def empty(self, repository: Path, expert: Path, target: Path) -> tuple[list[str | Path], Path]:
        """The command that gets one expert back, and where it appears. Borg extracts where it stands."""
        below = target / expert.relative_to("/")
        if self.tool == "borg":
            inner = 'cd "$1" && exec borg extract "$2::family" "$3"'
            return ["sh", "-c", inner, "sh", target, repository, str(expert).lstrip("/")], below
        if self.tool == "restic":
            words = ["restic", "-q", "-r", repository, "restore", "latest", "--include", expert]
            return [*words, "--target", target], below
        return [*MP, "-q", "-C", repository, "checkout", expert.name, target / "out"], target / "out"


def archives(levels: Sequence[str], apart: bool, alone: bool) -> list[Archive]:
    found = [
        Archive("mp", level, each) for level in levels for each in ((False, True) if apart else (False,))
    ]
    return found if alone else found + [Archive(tool) for tool in ("borg", "restic") if shutil.which(tool)]


def timed(words: Sequence[str | Path], cold: bool, **extra: str) -> measured.Run:
    if cold:
        measured.forget_cache()
    return measured.run(words, **extra)


def one(archive: Archive, family: Path, scratch: Path, cold: bool) -> dict[str, float]:
    """Fill, weigh, empty, compare; everything made is removed again."""
    repository, target = scratch / "repository", scratch / "target"
    target.mkdir()
    extra = {
        **BORG,
        **RESTIC,
        "BORG_BASE_DIR": str(scratch / "borg"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
    }
    runs = [timed(words, cold, **extra) for words in archive.fill(family, repository)]
    stored = measured.stored_bytes(repository)
    expert = measured.experts_of(family)[-1]
    words, place = archive.empty(repository, expert, target)
    out = timed(words, cold, **extra)
    for file in sorted(path for path in expert.rglob("*") if path.is_file()):
        if not filecmp.cmp(file, place / file.relative_to(expert), shallow=False):
            raise SystemExit(f"{archive.name}: {file} came back different")
    copied = timed(["cp", "-r", expert, scratch / "copy"], cold)
    durably = timed(["sh", "-c", DURABLE_CP, expert, scratch / "durable"], cold)
    for path in scratch.iterdir():
        shutil.rmtree(path)
    return {
        "fill_seconds": sum(run.seconds for run in runs),
        "fill_peak_bytes": max(run.peak_bytes for run in runs),
        "stored_bytes": stored,
        "checkout_seconds": out.seconds,
        "cp_seconds": copied.seconds,
        "durable_cp_seconds": durably.seconds,
    }


def measure(
    family: Path, tools: Sequence[Archive], runs: int, scratch: Path, caches: Sequence[str] = ("cold", "warm")
) -> dict[str, Any]:
    """Medians over rounds, tools in turn within each round."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(runs):
        for cache in caches:
            for archive in tools:
                figures = one(archive, family, scratch, cache == "cold")
                print(cache, archive.name, figures, flush=True)
                found.setdefault((archive.name, cache), []).append(figures)
    raw = measured.stored_bytes(family)
    rows = []
    for (name, cache), each in found.items():
        row: dict[str, Any] = {"tool": name, "cache": cache}
        row |= {key: statistics.median(one[key] for one in each) for key in each[0]}
        rows.append({**row, "stored_ratio": row["stored_bytes"] / raw, "fill_runs": spread(each)})
    return {
        "machine": measured.machine(),
        "family": family.name,
        "raw_bytes": raw,
        "runs": runs,
        "rows": rows,
    }


def spread(each: list[dict[str, float]]) -> list[float]:
    return [one["fill_seconds"] for one in each]


def table(result: dict[str, Any]) -> str:
    """Markdown; the ratios are against borg with the same cache where it is there."""
    lines = [
        "| tool | cache | stored / raw | archive s | borg / this | checkout s | `cp` s | durable `cp` s "
        "| cp / checkout | durable / checkout |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    borg = {row["cache"]: row["fill_seconds"] for row in result["rows"] if row["tool"] == "borg"}
    for row in result["rows"]:
        against = f"{borg[row['cache']] / row['fill_seconds']:.2f}" if borg else ""
        lines.append(
            f"| {row['tool']} | {row['cache']} | {row['stored_ratio']:.3f} | {row['fill_seconds']:.2f} "
            f"| {against} | {row['checkout_seconds']:.2f} | {row['cp_seconds']:.2f} "
            f"| {row['durable_cp_seconds']:.2f} | {row['cp_seconds'] / row['checkout_seconds']:.2f} "
            f"| {row['durable_cp_seconds'] / row['checkout_seconds']:.2f} |"
        )
    return "\n".join(lines)


def plot(result: dict[str, Any], target: Path) -> None:
    """Size over time, cold filled and warm hollow."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    named: list[str] = []
    for row in result["rows"]:
        place = row["fill_seconds"], row["stored_ratio"]
        shade = {"facecolors": "C0" if row["cache"] == "cold" else "none", "edgecolors": "C0"}
        axes.scatter(*place, **shade)
        if row["tool"] not in named:  # neighbours' names one above the other
            lift = 7 + 11 * (len(named) % 3)
            axes.annotate(row["tool"], place, (0, lift), textcoords="offset points", ha="center", fontsize=8)
            named.append(row["tool"])
    axes.set_xlabel("seconds to archive the family (hollow: warm cache)")
    axes.set_ylabel("stored bytes / raw bytes")
    axes.set_ylim(0, 1.05)
    axes.grid(alpha=0.3)
    figure.savefig(target, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", type=Path, nargs="?")
    parser.add_argument("--levels", nargs="+", default=["default"], choices=[level.value for level in Level])
    parser.add_argument("--apart", action="store_true", help="mp also with one command for each checkpoint")
    parser.add_argument("--alone", action="store_true", help="mp only, from a cold cache only")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a tiny family, once")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--scratch", type=Path, help="a directory on the disk to measure")
    chosen = parser.parse_args()
    if not chosen.smoke and chosen.family is None:
        parser.error("FAMILY is missing")
    with (
        tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch,
        tempfile.TemporaryDirectory(dir=chosen.scratch) as made,
    ):
        family = measured.small_family(Path(made)) if chosen.smoke else chosen.family.resolve()
        runs = 1 if chosen.smoke else chosen.runs
        caches = ("warm",) if chosen.smoke else ("cold",) if chosen.alone else ("cold", "warm")
        tools = archives(chosen.levels, chosen.apart, chosen.alone)
        result = measure(family, tools, runs, Path(scratch), caches)
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.plot:
        plot(result, chosen.plot)
    print(table(result))


if __name__ == "__main__":
    main()
