"""A family in a store and in plain files, and one merge of it either way, measured.

Relies on measured.py; a merge is `mp merge` in a process of its own, in a copy of the repository so that no
run finds what an earlier one made (the memo), or paper_naive.py over the plain files.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measured
from measured import MP

from mpstore.merge.execute.contexts import content_key
from mpstore.repository import Repo
from mpstore.revisions import resolve

NAIVE = Path(__file__).with_name("paper_naive.py")


@dataclass(frozen=True)
class Operation:
    """An operator with what its experts and the whole are set to."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


LINEAR = Operation("linear")
OPERATIONS = (
    Operation("task_arithmetic", {"weight": 0.4}),
    LINEAR,
    Operation("ties", {"weight": 1.0, "density": 0.2}),
    Operation("dare_linear", {"weight": 0.4, "density": 0.5}),
    Operation("dare_ties", {"weight": 0.4, "density": 0.5}),
    Operation("breadcrumbs", {"weight": 0.4, "density": 0.9}),
    Operation("model_stock"),
)


@dataclass(frozen=True)
class Family:
    """The plain checkpoints, and a repository that holds them; `packs` are those the experts came in."""

    folder: Path
    repository: Path
    scratch: Path
    packs: frozenset[str]
    keys: dict[str, str]

    @property
    def experts(self) -> list[str]:
        return [path.name for path in measured.experts_of(self.folder)]

    def raw_bytes(self, experts: Sequence[str]) -> int:
        return sum((self.folder / name / "model.safetensors").stat().st_size for name in experts)


def stored(folder: Path, scratch: Path, block_elements: int | None = None) -> Family:
    """Put a family into a new repository."""
    repository = scratch / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    blocks = [] if block_elements is None else ["--block-elements", str(block_elements)]
    measured.run([*MP, "-q", "init", repository, *blocks])
    mp = [*MP, "-q", "-C", repository, "add"]
    measured.run([*mp, folder / "base", "--branch", "base"])
    before = {path.name for path in repository.rglob("*.pack")}
    names = [path.name for path in measured.experts_of(folder)]
    for name in names:
        measured.run([*mp, folder / name, "--branch", name, "--base", "base"])
    packs = frozenset(path.name for path in repository.rglob("*.pack")) - before
    repo = Repo.open(repository)
    manifests = {name: repo.commit(resolve(repo, name)).manifest for name in names}
    keys = {name: content_key(repo.manifest(one), one).hex() for name, one in manifests.items()}
    return Family(folder, repository, scratch, packs, keys)


def _copy(source: str, target: str) -> str:
    """Packs are never modified: a second name will do. Everything else is copied."""
    if source.endswith((".pack", ".idx")):
        os.link(source, target)
        return target
    return str(shutil.copy2(source, target))


def fresh(family: Family) -> Path:
    """A copy of the repository as it was after the adds."""
    target = family.scratch / "fresh"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(family.repository, target, copy_function=_copy)
    return target


def words(operation: Operation, experts: Sequence[str], budget: str | None) -> list[str]:
    """The arguments of `mp merge` and `mp plan`."""
    own = ",".join(f"{key}={value}" for key, value in operation.params.items())
    found = ["--base", "base", "--op", operation.name]
    for name in experts:
        found += ["--expert", f"{name}:{own}" if own else name]
    for key, value in operation.settings.items():
        found += ["--set", f"{key}={value}"]
    return found + ([] if budget is None else ["--budget", budget])


def budgeted(
    family: Family, operation: Operation, experts: Sequence[str], budget: str | None, runs: int = 1
) -> dict[str, Any]:
    """Cold merges for their time (the median), one more under strace for its bytes."""
    merge = ["merge", *words(operation, experts, budget), "--branch", "merged", "--json"]
    each = []
    for _ in range(runs):
        repository = fresh(family)
        measured.forget_cache()
        each.append(measured.run([*MP, "-C", repository, *merge]))
    repository = fresh(family)
    moved, _ = measured.traffic([*MP, "-C", repository, *merge])
    document = each[-1].document
    kept = ("manifest", "plan", "full_raw_bytes", "full_stored_bytes", "planned_bytes", "budget_bytes")
    figures = {key: document[key] for key in (*kept, "bound", "bound_kind", "exact", "omitted_blocks")}
    return figures | {
        "counted_expert_bytes": document["expert_read_bytes"],
        "merge_seconds": statistics.median(run.document["seconds"] for run in each),
        **costs(moved, each, str(repository), lambda path: Path(path).name in family.packs),
    }


def costs(
    moved: measured.Traffic, each: Sequence[measured.Run], below: str, expert: Callable[[str], bool]
) -> dict[str, Any]:
    """What the runs cost; without strace all bytes of the process stand for both."""
    whole = moved.how != "strace"
    return {
        "how": moved.how,
        "expert_bytes": moved.read_of(lambda path: whole or expert(path)),
        "read_bytes": moved.read_of(lambda path: whole or path.startswith(below)),
        "written_bytes": moved.written_of(lambda path: whole or path.startswith(below)),
        "wall_seconds": statistics.median(run.seconds for run in each),
        "wall_runs_seconds": [run.seconds for run in each],
        "peak_bytes": max(run.peak_bytes for run in each),
    }


def naive(family: Family, operation: Operation, experts: Sequence[str], runs: int = 1) -> dict[str, Any]:
    """The same merge from plain files to a plain file; its output stays in scratch/naive."""
    out, job = family.scratch / "naive", family.scratch / "job.json"
    document = {
        "base": str(family.folder / "base"),
        "experts": [str(family.folder / name) for name in experts],
        "keys": [family.keys[name] for name in experts],
        "params": [operation.params] * len(experts),
        "operator": operation.name,
        "settings": operation.settings,
        "out": str(out),
    }
    job.write_text(json.dumps(document))
    each = []
    for _ in range(runs):
        shutil.rmtree(out, ignore_errors=True)
        measured.forget_cache()
        each.append(measured.run([sys.executable, NAIVE, job]))
    shutil.rmtree(out)
    moved, _ = measured.traffic([sys.executable, NAIVE, job])
    folder, base = str(family.folder), str(family.folder / "base")
    found = costs(
        moved, each, folder, lambda path: path.startswith(folder) and not path.startswith(base + "/")
    )
    found["written_bytes"] = moved.written_of(lambda path: moved.how != "strace" or path.startswith(str(out)))
    return found
