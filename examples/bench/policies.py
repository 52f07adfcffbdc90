"""Which policy leaves the least error: planned, executed in memory and measured on families at hand.

    python examples/bench/policies.py DIR [--out F.json] [--plot F.png] [--block-elements N] [--pairs]
    python examples/bench/policies.py --scale [--experts 20]     how long planning 8B parameters takes
    python examples/bench/policies.py --smoke                    both, tiny

DIR holds a checkpoint `base` and others beside it (examples/bench/families.py, examples/digits). Each is
added to a temporary repository, every policy plans at every budget, and the outputs of all plans are computed
block by block with the operators themselves, in one pass: |theta_B - theta_full| / |theta_base|, as stored.
`--every N` takes each N-th tensor, for families that do not fit an afternoon.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import simulate

from mpstore import dtypes, overlap
from mpstore.ingest.add import add
from mpstore.merge import recipe as recipes
from mpstore.merge import resolve
from mpstore.merge.curve import curve
from mpstore.merge.execute.contexts import content_key
from mpstore.merge.gather import Source, gather
from mpstore.merge.operators.protocol import Block, Facts, Operator, TensorContext
from mpstore.merge.operators.table import find
from mpstore.merge.plan_inputs import Limits, PlanInputs
from mpstore.merge.planner import plan, plan_with_order
from mpstore.merge.policies.table import POLICIES
from mpstore.records.config import Config
from mpstore.records.model import Manifest, Plan
from mpstore.repository import Repo

SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
SMOKE_SHARES = (0.05, 0.2)


@dataclass(frozen=True)
class Case:
    """An operator with the parameters of all experts, or of each in turn."""

    name: str
    operator: str
    weights: tuple[float, ...] = (1.0,)
    shared: tuple[tuple[str, Any], ...] = ()
    density: float | None = None

    def params(self, expert: int) -> dict[str, Any]:
        found: dict[str, Any] = {"weight": self.weights[expert % len(self.weights)]}
        return found if self.density is None else found | {"density": self.density}


CASES = (
    Case("linear", "linear"),
    Case("linear, weights 1 .5 2 1", "linear", (1.0, 0.5, 2.0, 1.0)),
    Case("task_arithmetic .6", "task_arithmetic", (0.6,)),
    Case("ties, density .2", "ties", density=0.2),
)


@dataclass(frozen=True)
class Planned:
    """One point: a policy at a budget, and its plan."""

    policy: str
    share: float
    plan: Plan


class Family:
    """A base and experts in a temporary repository."""

    def __init__(self, folder: Path, root: Path, block_elements: int) -> None:
        self.repo = Repo.init(root / folder.name, Config(block_elements=block_elements))
        self.base = add(self.repo, folder / "base", "base").commit
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != "base")
        self.experts = {name: add(self.repo, folder / name, name, base=self.base).commit for name in names}

    def compare(self) -> None:
        """Compare every two experts with each other: the certificate is tight then."""
        overlap.measure(self.repo, list(self.experts.values()))

    def manifests(self) -> list[Manifest]:
        commits = [self.repo.commit(one) for one in (self.base, *self.experts.values())]
        return [self.repo.manifest(one.manifest) for one in commits]

    def inputs(self, case: Case) -> tuple[PlanInputs, Mapping[str, TensorContext]]:
        """The planner's inputs, and what the operator is told of every tensor."""
        chosen = [(name, case.params(i)) for i, name in enumerate(self.experts)]
        recipe = recipes.from_flags("base", chosen, case.operator, dict(case.shared))
        sources = [Source(name, commit) for name, commit in self.experts.items()]
        inputs = gather(self.repo, recipe, Source("base", self.base), sources)
        base, *experts = self.manifests()
        shapes = {key: record.shape for key, record in self.repo.tensors(base).items()}
        commits = [self.repo.commit(one) for one in self.experts.values()]
        keys = [content_key(m, c.manifest) for m, c in zip(experts, commits, strict=True)]
        return inputs, resolve.contexts(resolve.resolve(recipe, shapes), 0, keys, shapes)


def only(inputs: PlanInputs, every: int) -> PlanInputs:
    """The same merge of each `every`-th tensor: the others' blocks are no candidates."""
    tensors = np.arange(len(inputs.grid.keys)) % every == 0
    blocks = tensors[inputs.grid.tensor_of_block]
    size = inputs.grid.elements[blocks].sum() / max(int(inputs.grid.elements.sum()), 1)
    experts = tuple(
        replace(
            expert,
            candidate=expert.candidate & blocks,
            frame_bytes=np.where(blocks, expert.frame_bytes, 0),
            raw_bytes=int(expert.raw_bytes * size),
        )
        for expert in inputs.experts
    )
    base_sq = np.where(blocks, inputs.grid.base_sq, 0.0)
    return replace(inputs, grid=replace(inputs.grid, base_sq=base_sq), experts=experts)


def plans_for(inputs: PlanInputs, shares: Sequence[float]) -> list[Planned]:
    """Every policy at every budget below what is stored."""
    raw = sum(expert.raw_bytes for expert in inputs.experts)
    full = plan(inputs, Limits())
    found = []
    for share in (0.0, *shares):
        if share * raw < full.full_stored_bytes:
            for policy in POLICIES:
                limits = Limits(budget_bytes=int(share * raw), policy=policy)
                found.append(Planned(policy, share, plan(inputs, limits)))
    return found


def thresholds(op: Operator, context: TensorContext, deltas: Sequence[np.ndarray]) -> Facts:
    """Exact order statistics for all plans alike."""
    asked = op.ranks(context)
    values = []
    for ranks, delta in zip(asked, deltas, strict=True):
        magnitude = np.sort(np.abs(delta)) if ranks else delta
        values.append(tuple(float(magnitude[rank - 1]) for rank in ranks))
    return Facts(thresholds=tuple(values))


def realized(
    family: Family,
    case: Case,
    inputs: PlanInputs,
    contexts: Mapping[str, TensorContext],
    plans: list[Planned],
) -> np.ndarray:
    """Norm of every plan's deviation from the unbudgeted output, both rounded to the base's dtype."""
    op = find(case.operator)
    squares = np.zeros(len(plans))
    for key in keys_of(inputs):
        for part in tensor_errors(family, op, contexts[key], key, plans):
            squares += part
    return np.sqrt(squares)


def keys_of(inputs: PlanInputs) -> list[str]:
    """Tensors of which any expert has a candidate."""
    grid = inputs.grid
    busy = np.zeros(len(grid.keys), bool)
    for expert in inputs.experts:
        busy |= np.bincount(grid.tensor_of_block, expert.candidate, len(grid.keys)) > 0
    return [grid.keys[t] for t in np.flatnonzero(busy)]


def tensor_errors(
    family: Family, op: Operator, context: TensorContext, key: str, plans: list[Planned]
) -> Iterator[np.ndarray]:
    """Squared errors of all plans, block after block of one tensor."""
    arrays = [family.repo.read_tensor(manifest, key).reshape(-1) for manifest in family.manifests()]
    dtype = dtypes.of_numpy(arrays[0].dtype)
    assert dtype is not None
    base, *experts = (array.astype(np.float32) for array in arrays)
    deltas = [expert - base for expert in experts]
    facts = thresholds(op, context, deltas)
    block = family.repo.config.block_elements
    bits = [[bits_of(one.plan, i, key, base.size, block) for i in range(len(deltas))] for one in plans]
    for number, at in enumerate(range(0, base.size, block)):
        part = base[at : at + block]
        there = [delta[at : at + block] if delta[at : at + block].any() else None for delta in deltas]
        merge = BlockMerge(op, context, facts, dtype, at, part, there)
        yield np.array([merge.error([bool(b[number]) for b in chosen]) for chosen in bits])


class BlockMerge:
    """One block merged with whatever subset of its experts is read; each subset is computed once."""

    def __init__(
        self,
        op: Operator,
        context: TensorContext,
        facts: Facts,
        dtype: dtypes.Dtype,
        start: int,
        base: np.ndarray,
        deltas: Sequence[np.ndarray | None],
    ) -> None:
        self._terms = (op, context, facts, dtype)
        self._start, self._base, self._deltas = start, base, deltas
        self._full = tuple(delta is not None for delta in deltas)
        self._errors: dict[tuple[bool, ...], float] = {self._full: 0.0}
        self._whole: np.ndarray | None = None

    def error(self, chosen: Sequence[bool]) -> float:
        """Squared deviation of the output from the one that reads everything."""
        reads = tuple(f and c for f, c in zip(self._full, chosen, strict=True))
        if reads not in self._errors:
            if self._whole is None:
                self._whole = self._output(self._full)
            self._errors[reads] = float(np.square(self._output(reads) - self._whole).sum())
        return self._errors[reads]

    def _output(self, reads: tuple[bool, ...]) -> np.ndarray:
        op, context, facts, dtype = self._terms
        if not any(reads):
            return self._base.astype(np.float64)
        chosen = tuple(delta if read else None for delta, read in zip(self._deltas, reads, strict=True))
        merged = op.apply(Block(self._start, self._base, chosen), facts, context)
        return dtypes.from_float32(merged, dtype).astype(np.float32).astype(np.float64)


def bits_of(made: Plan, expert: int, key: str, elements: int, block: int) -> np.ndarray:
    """Flags of the blocks that a plan reads."""
    count = -(-elements // block)
    bits = made.experts[expert].selection.get(key, bytes(-(-count // 8)))
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count)


def compare(
    folder: Path, shares: Sequence[float], block_elements: int, every: int, pairs: bool
) -> list[dict[str, Any]]:
    """One row a case, budget and policy."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="policies-") as root:
        family = Family(folder, Path(root), block_elements)
        if pairs:
            family.compare()
        for case in CASES:
            inputs, contexts = family.inputs(case)
            inputs = only(inputs, every)
            plans = plans_for(inputs, shares)
            norm = float(np.sqrt(inputs.grid.base_sq[np.isfinite(inputs.grid.base_sq)].sum()))
            for one, error in zip(plans, realized(family, case, inputs, contexts, plans), strict=True):
                rows.append(
                    {
                        "family": folder.name,
                        "case": case.name,
                        "policy": one.policy,
                        "budget_share": one.share,
                        "stored_share": one.plan.full_stored_bytes / one.plan.full_raw_bytes,
                        "planned_bytes": one.plan.cost_bytes,
                        "relative_error": float(error) / norm,
                        "relative_bound": one.plan.relative_bound,
                        "bound_kind": one.plan.bound_kind,
                    }
                )
            print_case(case, [row for row in rows if row["case"] == case.name])
    return rows


def print_case(case: Case, rows: list[dict[str, Any]]) -> None:
    """A table: budgets down, policies across; the realized error, and for the default its bound over it."""
    print(f"\n{case.name} (all that is stored: {rows[0]['stored_share']:.1%} of raw)")
    print("budget  " + "  ".join(f"{policy:>12}" for policy in POLICIES) + "   bound/error: sketch, norms")
    for share in sorted({row["budget_share"] for row in rows}):
        line = {row["policy"]: row for row in rows if row["budget_share"] == share}
        errors = "  ".join(f"{line[policy]['relative_error']:12.3e}" for policy in POLICIES)
        over = [
            line[p]["relative_bound"] / max(line[p]["relative_error"], 1e-30) for p in ("sketch", "norms")
        ]
        print(f"{share:6.1%}  {errors}   {over[0]:.2f}, {over[1]:.2f}")
    sys.stdout.flush()


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Per policy the geometric mean, over cases and budgets above 0, of its error over the best one's."""
    ratios: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    points = {(row["case"], row["budget_share"]) for row in rows if row["budget_share"]}
    for point in points:
        line = {r["policy"]: r["relative_error"] for r in rows if (r["case"], r["budget_share"]) == point}
        best = min(line.values())
        if best > 0:
            for policy, error in line.items():
                ratios[policy].append(error / best)
    return {policy: statistics.geometric_mean(r) for policy, r in ratios.items() if r}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Error over budget, one panel a case, one line a policy."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure = Figure(figsize=(4.2 * len(cases), 3.8), layout="constrained")
    for number, case in enumerate(cases, start=1):
        axes = figure.add_subplot(1, len(cases), number)
        for policy in POLICIES:
            line = [row for row in rows if row["case"] == case and row["policy"] == policy]
            ends = [*line, {"budget_share": line[0]["stored_share"], "relative_error": 0.0}]
            axes.plot(
                [100 * r["budget_share"] for r in ends],
                [r["relative_error"] for r in ends],
                ".-",
                label=policy,
            )
        axes.set(title=case, xlabel="budget, % of raw", ylim=(0, None))
        axes.grid(alpha=0.25)
        if number == 1:
            axes.set_ylabel("relative error")
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def time_planning(experts: int, smoke: bool) -> list[dict[str, Any]]:
    """Seconds of each policy for a decoder of 8B parameters, the curve included: median of three."""
    shape = (2, 256, 512, 1000, 64) if smoke else (32, 4096, 14336, 128256, 1024)
    inputs = simulate.family(simulate.grid_of(simulate.decoder_tensors(*shape)), experts)
    candidates = int(sum(expert.candidate.sum() for expert in inputs.experts))
    budget = sum(expert.raw_bytes for expert in inputs.experts) // 10
    rows = []
    for policy in POLICIES:
        seconds = []
        for _ in range(1 if smoke else 3):
            started = time.perf_counter()
            curve(plan_with_order(inputs, Limits(budget_bytes=budget, policy=policy)))
            seconds.append(time.perf_counter() - started)
        rows.append({"policy": policy, "candidates": candidates, "seconds": statistics.median(seconds)})
        print(f"{policy:>12}  {candidates:,} candidates  {rows[-1]['seconds']:.2f} s", flush=True)
    return rows


def smoke_family(root: Path) -> Path:
    """Two small tensors, three experts."""
    import ml_dtypes
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    base = {f"model.layers.{i}.w": rng.standard_normal((64, 64)).astype(np.float32) for i in range(2)}
    for name in ("base", "one", "two", "three"):
        (root / "smoke" / name).mkdir(parents=True)
        moved = {k: v + (name != "base") * 0.05 * rng.standard_normal(v.shape) for k, v in base.items()}
        stored = {k: v.astype(np.float32).astype(ml_dtypes.bfloat16) for k, v in moved.items()}
        save_file(stored, root / "smoke" / name / "model.safetensors")
    return root / "smoke"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--block-elements", type=int, default=131072)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--pairs", action="store_true", help="compare the experts with each other first")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument("--smoke", action="store_true")
    words = parser.parse_args()
    found: dict[str, Any] = {}
    if words.scale or words.smoke:
        found["planning"] = time_planning(words.experts, words.smoke)
    if words.smoke:
        with tempfile.TemporaryDirectory() as root:
            found["rows"] = compare(smoke_family(Path(root)), SMOKE_SHARES, 512, 1, words.pairs)
    elif words.family:
        found["rows"] = compare(words.family, SHARES, words.block_elements, words.every, words.pairs)
    if "rows" in found:
        found["error_over_best"] = summary(found["rows"])
        print(
            "\nerror over the best policy's, geometric mean:", json.dumps(found["error_over_best"], indent=1)
        )
        if words.plot:
            draw(found["rows"], words.plot)
    if words.out:
        words.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
