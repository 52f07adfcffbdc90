"""The main job on a real family: train, add, plan, merge under budgets, look, check out, verify.

    python examples/digits/run.py [--output DIR] [--smoke]

Drives the command line (`python -m mpstore.cli` is `mp`), as a user would; only the sweep over budgets reads
the merged tensors through the Python API, without a checkout. Ends in a table and a picture of budget against
the error of the parameters and against the accuracy of the merged model. `--smoke` trains briefly, skips what
only shows, and takes three budgets.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import family
import matplotlib as mpl
import numpy as np

import mpstore

mpl.use("Agg")
from matplotlib import pyplot

WEIGHT = 0.7
BUDGETS = (0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)
SMOKE_BUDGETS = (0, 25, 100)
BLOCK_ELEMENTS = 512


@dataclass(frozen=True)
class Point:
    """One merge of the sweep; errors are relative to the norm of the full merge."""

    budget_percent: float
    read_bytes: int
    full_raw_bytes: int
    relative_error: float
    relative_bound: float
    accuracies: tuple[float, ...]
    exact: bool

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.accuracies))


def mp(repository: Path, *words: str, show: bool = True) -> str:
    """Run one `mp` command in the repository, shown as it would be typed."""
    if show:
        print(f"\n$ mp {shlex.join(words)}", flush=True)
    ended = subprocess.run(
        [sys.executable, "-m", "mpstore.cli", "-C", str(repository), *words],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        sys.exit(f"mp {words[0]} ended with {ended.returncode}")
    if show:
        print(ended.stdout, end="", flush=True)
    return ended.stdout


def recipe() -> list[str]:
    """The arguments of every merge here but the budget and the branch."""
    words = ["--base", "base", "--op", "task_arithmetic"]
    for expert in family.EXPERTS:
        words += ["--expert", f"{expert}:weight={WEIGHT}"]
    return words


def add_all(root: Path) -> Path:
    """The family in a repository of its own."""
    repository = root / "repository"
    repository.mkdir()
    mp(repository, "init", "--block-elements", str(BLOCK_ELEMENTS))
    mp(repository, "add", "../family/base", "--branch", "base", "-m", "upright digits")
    for expert in family.EXPERTS:
        message = f"fine-tuned on {expert} digits"
        mp(repository, "add", f"../family/{expert}", "--branch", expert, "--base", "base", "-m", message)
    return repository


def main_job(repository: Path) -> None:
    """What a user does with it."""
    mp(repository, "plan", *recipe(), "--budget", "25%")
    mp(
        repository,
        "merge",
        *recipe(),
        "--budget",
        "25%",
        "--branch",
        "merged",
        "-m",
        "all views at a quarter",
    )
    mp(repository, "log", "merged", "--graph", "--oneline")
    mp(repository, "show", "merged")
    mp(repository, "diff", "base", "merged", "--stat")
    mp(repository, "explain", "merged")
    mp(repository, "replay", "merged")
    mp(repository, "checkout", "merged", "../out")
    mp(repository, "fsck", "--read-data")
    mp(repository, "stats")


def weights_of(repository: mpstore.Repository, revision: str) -> family.Weights:
    """A revision's tensors as float32, read from the store."""
    return {name: np.asarray(array, np.float32) for name, array in repository.tensors(revision).items()}


def norm(weights: family.Weights) -> float:
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in weights.values())))


def sweep(directory: Path, budgets: tuple[int, ...]) -> list[Point]:
    """Merge at each budget; measure the bytes read, the error of the parameters, the accuracy."""
    _, test = family.load()
    mp(directory, "merge", *recipe(), "--branch", "full", show=False)
    repository = mpstore.Repository.open(directory)
    full = weights_of(repository, "full")
    points = []
    for budget in budgets:
        # What an earlier merge made would be found again and not read; each budget is to stand for itself.
        shutil.rmtree(directory / ".mp" / "cache", ignore_errors=True)
        branch = f"budget-{budget}"
        merge: dict[str, Any] = json.loads(
            mp(
                directory,
                "merge",
                *recipe(),
                "--budget",
                f"{budget}%",
                "--branch",
                branch,
                "--json",
                show=False,
            )
        )
        merged = weights_of(repository, branch)
        difference = {name: merged[name] - full[name] for name in full}
        points.append(
            Point(
                budget_percent=budget,
                read_bytes=merge["expert_read_bytes"],
                full_raw_bytes=merge["full_raw_bytes"],
                relative_error=norm(difference) / norm(full),
                relative_bound=merge["bound"] / norm(full),
                accuracies=tuple(family.accuracy(merged, test, view) for view in family.VIEWS),
                exact=merge["exact"],
            )
        )
    return points


def table(points: list[Point]) -> str:
    """Table 7 of the paper in small: one line a budget."""
    views = "".join(f"{view:>10}" for view in family.VIEWS)
    lines = [f"{'budget':>7} {'read':>7} {'error':>9} {'bound':>9}{views}{'mean':>8}"]
    for point in points:
        read = point.read_bytes / point.full_raw_bytes
        each = "".join(f"{accuracy:>10.3f}" for accuracy in point.accuracies)
        note = "  exact" if point.exact else ""
        figures = f"{read:>7.1%} {point.relative_error:>9.2e} {point.relative_bound:>9.2e}"
        lines.append(f"{point.budget_percent:>6}% {figures}{each}{point.accuracy:>8.3f}{note}")
    return "\n".join(lines)


def picture(points: list[Point], path: Path) -> None:
    """Budget against parameter error (left axis) and accuracy (right axis)."""
    budgets = [point.budget_percent for point in points]
    figure, left = pyplot.subplots(figsize=(7, 4.2))
    left.plot(
        budgets, [point.relative_bound for point in points], "--", color="tab:blue", label="bound", alpha=0.6
    )
    left.plot(budgets, [point.relative_error for point in points], "o-", color="tab:blue", label="error")
    left.set_xlabel("budget, % of the experts' raw bytes")
    left.set_ylabel("relative error of the parameters", color="tab:blue")
    left.set_ylim(bottom=0)
    right = left.twinx()
    right.plot(budgets, [point.accuracy for point in points], "s-", color="tab:red", label="accuracy")
    right.set_ylabel("mean accuracy over the views", color="tab:red")
    lines = left.get_lines() + right.get_lines()
    left.legend(lines, [str(line.get_label()) for line in lines], loc="center right")
    figure.suptitle("A merge of three experts under a read budget")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="The main job of mp on a family trained on the spot.")
    parser.add_argument(
        "--output", type=Path, default=Path("digits-demo"), help="directory to make (default: %(default)s)"
    )
    parser.add_argument("--smoke", action="store_true", help="small: briefly trained, three budgets")
    words = parser.parse_args()
    root: Path = words.output
    if root.exists() and not (root / "family").is_dir():
        sys.exit(f"{root} exists and was not made by this script")
    shutil.rmtree(root, ignore_errors=True)
    began = time.monotonic()
    print(f"training a base and {len(family.EXPERTS)} experts …", flush=True)
    family.make(root / "family", words.smoke)
    print(f"trained in {time.monotonic() - began:.0f} s: {root / 'family'}")
    repository = add_all(root)
    if not words.smoke:
        main_job(repository)
    points = sweep(repository, SMOKE_BUDGETS if words.smoke else BUDGETS)
    print("\nerror and bound are relative to the norm of the unbudgeted merge; accuracy on held-out digits\n")
    print(table(points))
    picture(points, root / "budget.png")
    (root / "budget.json").write_text(json.dumps([vars(point) for point in points], indent=2))
    print(f"\npicture: {root / 'budget.png'}   everything took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
