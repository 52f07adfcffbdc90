"""Planning on a real repository: what is gathered, what it costs on disk, what is refused before a read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import families
import ml_dtypes
import numpy as np
import pytest

from mpstore.errors import BudgetError, ConflictError, IncompatibleError, NotFoundError, UsageError
from mpstore.ids import ObjectId
from mpstore.ingest.add import add
from mpstore.merge import recipe as recipes
from mpstore.merge.curve import curve
from mpstore.merge.execute.execution import Executed, execute
from mpstore.merge.expectation import bound_if_compared
from mpstore.merge.gather import Source, gather
from mpstore.merge.plan_check import check_inputs, check_plan_current
from mpstore.merge.plan_cost import selection_cost
from mpstore.merge.plan_inputs import Limits, PlanInputs
from mpstore.merge.plan_report import picture
from mpstore.merge.planner import plan, plan_with_order
from mpstore.merge.results import plan_json
from mpstore.overlap import measure
from mpstore.records.config import Config
from mpstore.records.model import Plan
from mpstore.repository import Repo
from mpstore.store import set_read_observer

BLOCK = 512
BF16 = ml_dtypes.bfloat16


class Bench:
    """A repository, and checkpoints added to it by name."""

    def __init__(self, root: Path, commits: Mapping[str, ObjectId] | None = None) -> None:
        self.root = root
        self.commits = dict(commits or {})
        if commits is None:
            Repo.init(root / "repository", Config(block_elements=BLOCK, pack_bytes=1 << 16))
        self.repo = Repo.open(root / "repository")

    def add(
        self, name: str, tensors: Mapping[str, np.ndarray], base: str | None = None, **more: object
    ) -> None:
        path = families.write_checkpoint(self.root / name, tensors)
        self.commits[name] = add(
            self.repo,
            path,
            name,
            base=self.commits[base] if base else None,
            **more,  # type: ignore[arg-type]
        ).commit

    def gather(
        self, experts: Mapping[str, Mapping[str, object]], op: str = "linear", base: str = "base"
    ) -> PlanInputs:
        recipe = recipes.from_flags(base, list(experts.items()), op)
        sources = [Source(name, self.commits[name]) for name in experts]
        return gather(self.repo, recipe, Source(base, self.commits[base]), sources)

    def run(self, made: Plan) -> Executed:
        with self.repo.objects.writer("test") as writer:
            done = execute(self.repo, writer, made, use_memo=False)
            writer.finish()
        return done

    def tensors(self, done: Executed) -> dict[str, np.ndarray]:
        return {k: self.repo.read_tensor(done.manifest, k).astype(np.float64) for k in done.manifest.tensors}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A base and three experts, made once."""
    found = Bench(tmp_path_factory.mktemp("family"))
    base = families.base_tensors()
    found.add("base", base)
    for number, name in enumerate(("math", "code", "law")):
        still = [key for key in base if f"layers.{number % 2}.self_attn" in key]
        found.add(name, families.fine_tuned(base, number + 1, still), "base")
    return found


@pytest.fixture
def bench(family: Bench, tmp_path: Path) -> Bench:
    """A copy of the family to do with as a test likes."""
    shutil.copytree(family.root / "repository", tmp_path / "repository", symlinks=True)
    return Bench(tmp_path, family.commits)


@pytest.fixture
def pack_reads() -> Iterator[list[tuple[str, int]]]:
    reads: list[tuple[str, int]] = []
    set_read_observer(lambda _path, _offset, length, purpose: reads.append((str(purpose), length)))
    yield reads
    set_read_observer(None)


EQUAL: dict[str, dict[str, object]] = {"math": {}, "code": {}, "law": {}}


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 0.3, 0.6, 1.0])
def test_invariant_07_packs_are_read_within_the_plan_and_the_plan_within_the_budget(
    bench: Bench, pack_reads: list[tuple[str, int]], share: float
) -> None:
    inputs = bench.gather(EQUAL)
    budget = int(share * sum(expert.raw_bytes for expert in inputs.experts))
    made = plan(inputs, Limits(budget_bytes=budget))
    pack_reads.clear()
    done = bench.run(made)
    read = sum(length for purpose, length in pack_reads if purpose == "expert")
    assert read == done.expert_read_bytes <= made.cost_bytes <= budget
    assert done.base_read_bytes <= made.base_cost_bytes
    assert selection_cost(bench.repo, made) == made.cost_bytes
    if share == 0.0:
        assert done.manifest.tensors == bench.repo.manifest(made.base_manifest).tensors


@pytest.mark.parametrize("op", ["linear", "task_arithmetic", "ties", "dare_ties", "model_stock"])
def test_invariant_08_a_budget_that_covers_everything_changes_nothing(bench: Bench, op: str) -> None:
    density = {"density": 0.3} if op in ("ties", "dare_ties") else {}
    experts = {name: ({} if op == "model_stock" else {"weight": 0.7} | density) for name in EQUAL}
    inputs = bench.gather(experts, op)
    free = plan(inputs, Limits())
    enough = plan(inputs, Limits(budget_bytes=free.full_stored_bytes))
    assert free.exact
    assert enough.exact
    assert bench.run(enough).manifest_id == bench.run(free).manifest_id
    less = plan(inputs, Limits(budget_bytes=free.full_stored_bytes - 1))
    assert not less.exact
    assert less.omitted_blocks


@pytest.mark.parametrize(("dtype", "op"), [("BF16", "task_arithmetic"), ("F32", "linear")])
def test_invariant_09_realized_error_stays_below_the_certificate(tmp_path: Path, dtype: str, op: str) -> None:
    bench = Bench(tmp_path)
    base = families.base_tensors(dtype)
    bench.add("base", base)
    for number, name in enumerate(EQUAL):
        bench.add(name, families.fine_tuned(base, number + 1, scale=1e-3), "base")
    inputs = bench.gather({name: {"weight": 0.5} for name in EQUAL}, op)
    full = plan(inputs, Limits())
    whole = bench.tensors(bench.run(full))
    for policy, share in (("", 0.4), ("norms", 0.7), ("random", 0.9)):
        made = plan(inputs, Limits(budget_bytes=int(share * full.cost_bytes), policy=policy))
        found = bench.tensors(bench.run(made))
        error = np.sqrt(sum(np.square(found[k] - whole[k]).sum() for k in whole))
        assert made.bound_kind == "certificate"
        assert 0 < error <= made.bound


def test_foreign_delta_bases_are_paid_for_once_a_block(
    bench: Bench, pack_reads: list[tuple[str, int]]
) -> None:
    other = families.fine_tuned(families.base_tensors(), 77, scale=1e-2)
    bench.add("other", other, "base")
    inputs = bench.gather({"math": {}, "code": {}}, base="other")
    math, code = inputs.experts
    both = (math.foreign >= 0) & (code.foreign >= 0)
    assert (math.foreign[both] == code.foreign[both]).any(), "both lean on the base they were added with"
    made = plan(inputs, Limits())
    shared = int(code.foreign_bytes[both & (math.foreign == code.foreign)].sum())
    apart = sum(int((e.frame_bytes + e.foreign_bytes).sum()) for e in (math, code))
    assert made.cost_bytes == apart - shared
    pack_reads.clear()
    done = bench.run(made)
    assert (
        sum(n for purpose, n in pack_reads if purpose == "expert")
        == done.expert_read_bytes
        <= made.cost_bytes
    )


def test_delta_bases_that_the_base_itself_needs_are_not_paid_for_again(bench: Bench) -> None:
    tensors = families.fine_tuned(families.base_tensors(), 78, scale=1e-4)
    bench.add("next", tensors, "base")
    bench.add("tuned", families.fine_tuned(tensors, 79, scale=1e-4), "next")
    inputs = bench.gather({"tuned": {}}, base="next")
    made = plan(inputs, Limits())
    assert made.cost_bytes == int(inputs.experts[0].frame_bytes.sum()) == selection_cost(bench.repo, made)
    done = bench.run(made)
    assert (done.expert_read_bytes, done.base_read_bytes) == (made.cost_bytes, made.base_cost_bytes)


@pytest.mark.parametrize("op", ["task_arithmetic", "ties", "dare_ties"])
def test_where_an_expert_weighs_0_it_is_not_read(bench: Bench, op: str) -> None:
    """As in mergekit's own example: a weight for the MLPs, 0 for all else."""
    weight = "weight: [{filter: mlp, value: 0.5}, {value: 0}]"
    one, other = f"{{model: math, parameters: {{{weight}}}}}", "{model: code, parameters: {weight: 1}}"
    recipe = recipes.from_yaml(f"merge_method: {op}\nbase_model: base\nmodels: [{one}, {other}]\n")
    sources = [Source(name, bench.commits[name]) for name in ("math", "code")]
    inputs = gather(bench.repo, recipe, Source("base", bench.commits["base"]), sources)
    made = plan(inputs, Limits())
    assert made.exact
    assert made.experts[0].selection
    assert all("mlp" in key for key in made.experts[0].selection)
    assert set(made.experts[1].selection) > set(made.experts[0].selection)
    assert selection_cost(bench.repo, made) == made.cost_bytes
    done = bench.run(made)
    assert done.expert_read_bytes == made.cost_bytes
    everything = replace(
        made.experts[0], selection=plan(bench.gather({"math": {}, "code": {}}), Limits()).experts[0].selection
    )
    read = bench.run(replace(made, experts=(everything, *made.experts[1:])))
    assert read.expert_read_bytes > made.cost_bytes
    assert read.manifest.tensors == done.manifest.tensors


def test_without_statistics_whole_tensors_are_read_and_the_plan_says_why(bench: Bench) -> None:
    bench.add("other", families.fine_tuned(families.base_tensors(), 77), "base")
    inputs = bench.gather({"math": {}, "code": {}}, base="other")
    made = plan(inputs, Limits(budget_bytes=sum(e.raw_bytes for e in inputs.experts) // 4))
    assert made.bound == np.inf
    assert sorted(made.fallbacks) == ["0 math: *", "1 code: *"]
    assert "mp analyze" in made.fallbacks["0 math: *"]
    for number, expert in enumerate(made.experts):
        for t, key in enumerate(inputs.grid.keys):
            rows = slice(int(inputs.grid.offsets[t]), int(inputs.grid.offsets[t + 1]))
            bits = expert.selection.get(key, bytes(8))
            flags = np.unpackbits(np.frombuffer(bits, np.uint8), count=rows.stop - rows.start).astype(bool)
            assert not flags.any() or (flags == inputs.experts[number].candidate[rows]).all()
    assert bench.run(made).expert_read_bytes <= made.cost_bytes


def test_experts_that_were_compared_make_the_certificate_tight(bench: Bench) -> None:
    loose = bench.gather(EQUAL)
    assert not loose.overlaps
    assert loose.uncompared == (0, 1, 2)
    measure(bench.repo, [bench.commits[one] for one in ("math", "code")])
    assert sorted(bench.gather(EQUAL).overlaps) == [(0, 1)]
    measure(bench.repo, [bench.commits[one] for one in ("law", "math", "code")])
    tight = bench.gather(EQUAL)
    assert sorted(tight.overlaps) == [(0, 1), (0, 2), (1, 2)]
    assert tight.uncompared == ()
    supposed = plan_with_order(loose, Limits(budget_bytes=0))
    about = bound_if_compared(supposed.problem, supposed.selected)
    assert about == pytest.approx(plan(tight, Limits(budget_bytes=0)).bound, rel=0.1)
    assert not bench.gather({name: {"density": 0.5} for name in EQUAL}, "dare_linear").overlaps
    whole = bench.tensors(bench.run(plan(tight, Limits())))
    for share in (0.0, 0.1):
        limits = Limits(budget_bytes=int(share * sum(e.raw_bytes for e in tight.experts)))
        made = plan(tight, limits)
        found = bench.tensors(bench.run(made))
        error = np.sqrt(sum(np.square(found[k] - whole[k]).sum() for k in whole))
        assert error <= made.bound < 1.25 * error
        assert plan(loose, limits).bound > 1.4 * error


def test_a_base_that_is_an_expert_too_costs_nothing(bench: Bench) -> None:
    inputs = bench.gather({"base": {"weight": 1.0}, "math": {"weight": 3.0}})
    itself, math = inputs.experts
    assert not itself.candidate.any()
    assert itself.raw_bytes == 0
    assert not itself.fallbacks
    assert math.coefficient[0] == pytest.approx(0.75)


def test_missing_and_extra_tensors_are_reported(bench: Bench) -> None:
    tensors = families.fine_tuned(families.base_tensors(), 5)
    del tensors["lm_head.weight"]
    bench.add("headless", tensors | {"extra.weight": np.ones((4, 4), np.float32)}, "base")
    inputs = bench.gather({"headless": {}})
    told = " ".join(inputs.notes)
    assert "headless lacks 1 tensor (lm_head.weight)" in told
    assert "1 tensor (extra.weight) that the base has not" in told
    made = plan(inputs, Limits())
    assert "lm_head.weight" not in made.experts[0].selection
    done = bench.run(made)
    base = bench.repo.manifest(made.base_manifest)
    assert done.manifest.tensors["lm_head.weight"] == base.tensors["lm_head.weight"]


def test_another_shape_is_refused_by_name_before_a_read(
    bench: Bench, pack_reads: list[tuple[str, int]]
) -> None:
    tensors = families.base_tensors() | {"model.norm.weight": np.ones(65).astype(BF16)}
    bench.add("wide", tensors)
    pack_reads.clear()
    with pytest.raises(
        IncompatibleError, match=r"wide: tensor 'model\.norm\.weight' has shape \[65\].*\[64\]"
    ) as caught:
        bench.gather({"math": {}, "wide": {}})
    assert caught.value.exit_code == 8
    assert {purpose for purpose, _ in pack_reads} <= {"record"}


def test_integers_are_copied_and_must_be_equal(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    base = families.base_tensors() | {"positions": np.arange(10), "mask": np.array([True, False])}
    bench.add("base", base)
    bench.add("same", families.fine_tuned(base, 1, ["positions", "mask"]), "base")
    assert "positions" not in bench.gather({"same": {}}).grid.keys
    bench.add("moved", base | {"positions": np.arange(1, 11)}, "base")
    with pytest.raises(IncompatibleError, match=r"moved: tensor 'positions' .* differs"):
        bench.gather({"same": {}, "moved": {}})


def test_dtypes_mix_with_a_remark_and_equal_values_are_not_read(bench: Bench) -> None:
    tuned = families.fine_tuned(families.base_tensors(), 9, ["lm_head.weight"])
    bench.add("wide", {k: v.astype(np.float32) for k, v in tuned.items()}, "base")
    inputs = bench.gather({"wide": {}})
    assert any("F32 on BF16" in note for note in inputs.notes)
    head = inputs.grid.keys.index("lm_head.weight")
    rows = slice(int(inputs.grid.offsets[head]), int(inputs.grid.offsets[head + 1]))
    assert not inputs.experts[0].candidate[rows].any()
    assert inputs.experts[0].candidate.any()


def test_nan_and_infinities_are_reported_and_always_read_first_or_not(bench: Bench) -> None:
    tensors = families.fine_tuned(families.base_tensors(), 5)
    head = tensors["lm_head.weight"].copy()
    head[0, :3] = [np.nan, np.inf, -np.inf]
    bench.add("odd", tensors | {"lm_head.weight": head}, "base")
    inputs = bench.gather({"odd": {}})
    assert any(
        "odd has 3 NaN or infinite deltas in 1 tensor (lm_head.weight)" in note for note in inputs.notes
    )
    assert np.isfinite(plan(inputs, Limits(budget_bytes=0)).bound)


def test_a_delta_checkpoint_is_its_deltas(bench: Bench) -> None:
    base = families.base_tensors()
    tuned = families.fine_tuned(base, 5, ["lm_head.weight"])
    deltas = {k: (tuned[k].astype(np.float32) - base[k].astype(np.float32)) for k in base}
    bench.add("delta", deltas, "base", kind="delta")
    inputs = bench.gather({"delta": {}}, "task_arithmetic")
    expert = inputs.experts[0]
    head = inputs.grid.keys.index("lm_head.weight")
    assert not expert.candidate[int(inputs.grid.offsets[head]) : int(inputs.grid.offsets[head + 1])].any()
    made = plan(inputs, Limits())
    found = bench.tensors(bench.run(made))
    assert all(np.array_equal(found[k], tuned[k].astype(np.float64)) for k in base)
    with pytest.raises(IncompatibleError, match="delta is a delta checkpoint"):
        bench.gather({"math": {}}, base="delta")


def test_an_adapter_is_taken_tensor_by_tensor_for_its_own_bytes(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    pair = {
        f"{prefix}.lora_A.weight": (rng.standard_normal((4, families.HIDDEN)) * 0.1).astype(np.float32),
        f"{prefix}.lora_B.weight": (rng.standard_normal((families.HIDDEN, 4)) * 0.1).astype(np.float32),
    }
    directory = bench.root / "adapter"
    directory.mkdir()
    (directory / "adapter_model.safetensors").write_bytes(families.safetensors_bytes(pair))
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    bench.commits["adapter"] = add(bench.repo, directory, "adapter", base=bench.commits["base"]).commit
    inputs = bench.gather({"adapter": {}, "math": {}}, "task_arithmetic")
    adapter = inputs.experts[0]
    changed = np.unique(inputs.grid.tensor_of_block[adapter.candidate])
    assert [inputs.grid.keys[t] for t in changed] == ["model.layers.0.self_attn.q_proj.weight"]
    raw = sum(array.nbytes for array in pair.values())
    assert 0 < adapter.frame_bytes.sum() <= raw + 200 * 8
    made = plan(inputs, Limits())
    assert set(made.experts[0].selection) == {"model.layers.0.self_attn.q_proj.weight"}
    assert "LoRA" in made.fallbacks["0 adapter: *"]


STACK = """
merge_method: passthrough
slices:
  - sources: [{model: math, layer_range: [0, 2]}]
  - sources: [{model: code, layer_range: [1, 2]%s}]
"""


@pytest.mark.parametrize("scaled", [False, True])
def test_a_stack_reads_what_is_scaled_and_takes_over_the_rest(bench: Bench, scaled: bool) -> None:
    recipe = recipes.from_yaml(STACK % (", parameters: {scale: 0.5}" if scaled else ""))
    sources = [Source(name, bench.commits[name]) for name in recipe.models]
    inputs = gather(bench.repo, recipe, sources[0], sources[1:])
    made = plan(inputs, Limits())
    layer = {key for key in made.outputs if key.startswith("model.layers.2.")}
    assert layer
    assert made.exact
    assert (set(made.experts[0].selection) >= layer) == scaled
    assert (made.cost_bytes > 0) == scaled
    assert selection_cost(bench.repo, made) == made.cost_bytes
    done = bench.run(made)
    assert done.expert_read_bytes <= made.cost_bytes
    if scaled:
        with pytest.raises(BudgetError, match="stacking"):
            plan(inputs, Limits(budget_bytes=made.cost_bytes - 1))


def test_remote_tensors_cost_what_the_network_takes(bench: Bench) -> None:
    commit = bench.repo.commit(bench.commits["math"])
    manifest = bench.repo.manifest(commit.manifest)
    partial = replace(manifest, tensors=dict.fromkeys(manifest.tensors, b""))
    with bench.repo.objects.writer("partial") as writer:
        stored = bench.repo.put(writer, partial)
        there = bench.repo.put(writer, replace(commit, manifest=stored))
        writer.finish()
    recipe = recipes.from_flags("base", [("remote", {})], "linear")
    base = Source("base", bench.commits["base"])
    network = {key: 1000 + i for i, key in enumerate(sorted(manifest.tensors))}
    inputs = gather(bench.repo, recipe, base, [Source("remote", there, network)])
    made = plan(inputs, Limits(budget_bytes=5000))
    assert made.full_stored_bytes == sum(network[key] for key in inputs.grid.keys)
    assert made.cost_bytes == sum(network[key] for key in made.experts[0].selection) <= 5000
    assert "not in the store" in made.fallbacks["0 remote: *"]
    with pytest.raises(NotFoundError, match="never fetched"):
        gather(bench.repo, recipe, base, [Source("remote", there)])
    with pytest.raises(NotFoundError, match="only partly"):
        gather(bench.repo, recipe, Source("remote", there), [base])


def test_a_plan_whose_inputs_moved_is_refused_with_the_reason(bench: Bench) -> None:
    made = plan(bench.gather({"math": {}, "code": {}}), Limits())
    check_plan_current(bench.repo, made)
    with pytest.raises(BudgetError, match="promises to read"):
        check_plan_current(bench.repo, replace(made, cost_bytes=made.cost_bytes - 1))
    with pytest.raises(NotFoundError, match="no longer in the store"):
        check_plan_current(bench.repo, replace(made, base_commit=bytes(32)))
    bench.repo.refs.move("heads/math", bench.commits["math"], bench.commits["code"], "moved", "somebody")
    with pytest.raises(ConflictError, match="math has moved from"):
        check_plan_current(bench.repo, made)
    check_inputs(bench.repo, made)  # as a replay does: the commits alone count


def test_a_plan_is_drawn_with_what_is_known(bench: Bench) -> None:
    other = families.fine_tuned(families.base_tensors(), 77)
    bench.add("other", other, "base")
    for base in ("base", "other"):  # against `other` nothing is measured: the bound is infinite
        planned = plan_with_order(bench.gather(EQUAL, base=base), Limits(budget_bytes=40000))
        found = curve(planned, 11)
        points = [
            {"budget_bytes": budget, "relative_bound": bound, "expected_error": expected}
            for budget, bound, expected in zip(
                found.budget_bytes.tolist(),
                found.relative_bound.tolist(),
                found.expected_error.tolist(),
                strict=True,
            )
        ]
        assert np.isfinite(points[0]["relative_bound"]) == (base == "base")
        document = plan_json(planned.plan, bytes(32), [0] * len(planned.plan.experts))
        assert picture(document, points, ".png").startswith(b"\x89PNG")
    assert b"<svg" in picture(document, points, ".SVG")
    with pytest.raises(UsageError, match="cannot draw"):
        picture(document, points, ".exe")


def test_plans_of_a_repository_repeat(bench: Bench) -> None:
    limits = Limits(budget_bytes=50000)
    first = plan(bench.gather(EQUAL), limits)
    again = plan(gather_anew(bench), limits)
    assert first == again


def gather_anew(bench: Bench) -> PlanInputs:
    """The same, from a repository opened afresh."""
    bench.repo = Repo.open(bench.root / "repository")
    return bench.gather(EQUAL)
