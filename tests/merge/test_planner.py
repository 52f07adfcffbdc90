"""The planner against plain oracles: what it costs, what it promises, what it refuses. No repository here."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_material import DTYPES, Made, cost_of, distance, make, merge, random_family, rounded, selected

from mpstore.errors import BudgetError, UsageError
from mpstore.merge import ordering as orders
from mpstore.merge.budget import budget_text, parse_budget, parse_max_error
from mpstore.merge.curve import curve
from mpstore.merge.operators.table import find
from mpstore.merge.plan_inputs import Limits
from mpstore.merge.planner import plan, plan_with_order
from mpstore.merge.policies import table
from mpstore.merge.problem import build
from mpstore.records import encoding
from mpstore.records.model import Plan

POLICIES = sorted(table.POLICIES)


def a_merge(seed: int, experts: int = 3, dtype: str = "F32", scale: float = 0.05, **more: object) -> Made:
    rng = np.random.default_rng(seed)
    base, made = random_family(rng, experts, dtype, scale)
    params = [{"weight": float(w)} for w in rng.uniform(-0.5, 1.0, experts)]
    return make(find("task_arithmetic"), base, made, params, dtype=dtype, costs=rng, **more)  # type: ignore[arg-type]


def full_cost(made: Made) -> int:
    return cost_of(made, np.array([expert.candidate for expert in made.inputs.experts]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 1.2),
    policy=st.sampled_from(POLICIES),
    foreign=st.booleans(),
    whole=st.booleans(),
)
def test_invariant_07_cost_is_what_reading_takes_and_never_past_the_budget(
    seed: int, share: float, policy: str, foreign: bool, whole: bool
) -> None:
    made = a_merge(seed, foreign=foreign, whole=[1] if whole else [])
    budget = int(share * full_cost(made))
    got = plan(made.inputs, Limits(budget_bytes=budget, policy=policy))
    flags = selected(made, got)
    candidates = np.array([expert.candidate for expert in made.inputs.experts])
    assert got.cost_bytes == cost_of(made, flags) <= budget
    assert got.cost_bytes == sum(expert.cost_bytes for expert in got.experts)
    assert got.full_stored_bytes == full_cost(made)
    assert not (flags & ~candidates).any()
    assert got.omitted_blocks == int((candidates & ~flags).sum())
    if whole:
        for start, stop in zip(made.inputs.grid.offsets, made.inputs.grid.offsets[1:], strict=False):
            assert len(set(flags[1, start:stop][candidates[1, start:stop]])) <= 1


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["F32", "BF16", "F16", "F8_E4M3"]),
    scale=st.sampled_from([1e-4, 1e-2, 0.3]),
    policy=st.sampled_from(POLICIES),
    op=st.sampled_from(["linear", "task_arithmetic", "dare_linear"]),
)
def test_invariant_09_the_bound_is_never_broken(
    seed: int, dtype: str, scale: float, policy: str, op: str
) -> None:
    rng = np.random.default_rng(seed)
    base, experts = random_family(rng, int(rng.integers(1, 5)), dtype, scale)
    params = [{"weight": float(rng.uniform(-0.3, 1.2)) + 0.4} for _ in experts]
    if op == "dare_linear":
        params = [{**one, "density": 0.6} for one in params]
    pairs = list(combinations(range(len(experts)), 2)) if op != "dare_linear" else []
    pairs = [pair for pair in pairs if rng.random() < 0.7]
    made = make(find(op), base, experts, params, dtype=dtype, seed=seed, costs=rng, pairs=pairs)
    everything = np.array([expert.candidate for expert in made.inputs.experts])
    full = merge(made, everything)
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        got = plan(made.inputs, Limits(budget_bytes=int(share * full_cost(made)), policy=policy))
        assert got.bound_kind == "certificate"
        error = distance(merge(made, selected(made, got)), full)
        assert error <= got.bound
        if share == 1.0:
            assert (got.bound, got.relative_bound, got.exact, got.binding) == (0.0, 0.0, True, "none")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), policy=st.sampled_from(POLICIES), foreign=st.booleans())
def test_what_everything_costs_is_what_its_order_says(seed: int, policy: str, foreign: bool) -> None:
    """A plan that may read everything is made without an order, which does not change what it costs."""
    made = a_merge(seed, foreign=foreign)
    ordered = plan_with_order(made.inputs, Limits(policy=policy)).ordered
    assert "ordering" not in vars(ordered)
    assert ordered.full_bytes == int(ordered.ordering.cost.sum()) == full_cost(made)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["F32", "BF16"]),
    scale=st.sampled_from([1e-3, 1e-1]),
    foreign=st.booleans(),
)
def test_more_budget_never_means_a_larger_bound(seed: int, dtype: str, scale: float, foreign: bool) -> None:
    made = a_merge(seed, 4, dtype, scale, foreign=foreign, pairs=[(0, 1), (1, 3)] if seed % 2 else [])
    full = full_cost(made)
    bounds = [
        plan(made.inputs, Limits(budget_bytes=budget, policy="norms")).bound
        for budget in sorted({*range(0, full, max(full // 25, 1)), full})
    ]
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(bounds))
    assert bounds[-1] == 0.0


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), policy=st.sampled_from(POLICIES), dtype=st.sampled_from(["F32", "BF16"])
)
def test_trajectory_is_the_bound_after_every_unit(seed: int, policy: str, dtype: str) -> None:
    problem = build(a_merge(seed, foreign=True, dtype=dtype, pairs=[(0, 2)] if seed % 2 else []).inputs)
    ordering = orders.price(problem, table.find(policy).order(problem), False)
    squares = orders.trajectory(problem, ordering)
    assert sorted(set(ordering.unit[problem.candidate].tolist())) == list(range(ordering.units))
    for units in range(0, ordering.units + 1, 3):
        flags = orders.selection(ordering, np.arange(ordering.units) < units)
        assert math.sqrt(squares[units]) == pytest.approx(
            problem.certificate.bound(flags), rel=1e-6, abs=1e-12
        )
        assert int(ordering.cost[:units].sum()) == orders_cost(problem, flags)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    policy=st.sampled_from(POLICIES),
    dtype=st.sampled_from(["F32", "BF16", "F8_E4M3"]),
    scale=st.sampled_from([1e-4, 1e-2, 0.3]),
)
def test_reading_more_in_any_order_never_raises_the_bound(
    seed: int, policy: str, dtype: str, scale: float
) -> None:
    problem = build(a_merge(seed, 4, dtype, scale, whole=[2] if seed % 2 else []).inputs)
    ordering = orders.price(problem, table.find(policy).order(problem), False)
    squares = orders.trajectory(problem, ordering)
    assert (np.diff(squares) <= 1e-9 * squares[0]).all()


def orders_cost(problem: object, flags: np.ndarray) -> int:
    total = int(problem.frame_bytes[flags].sum())  # type: ignore[attr-defined]
    pairs = {
        (n, int(problem.foreign[i, n])): int(problem.foreign_bytes[i, n])  # type: ignore[attr-defined]
        for i, n in zip(*np.nonzero(flags & (problem.foreign >= 0)), strict=True)  # type: ignore[attr-defined]
    }
    return total + sum(pairs.values())


@pytest.mark.parametrize("policy", POLICIES)
def test_same_inputs_same_plan_and_order_of_experts_does_not_matter(policy: str) -> None:
    made = a_merge(5, 4)
    limits = Limits(budget_bytes=full_cost(made) // 2, policy=policy)
    first, again = plan(made.inputs, limits), plan(made.inputs, limits)
    assert encoding.encode(first) == encoding.encode(again)
    assert encoding.decode(Plan, encoding.encode(first)) == first
    turned = plan(replace(made.inputs, experts=made.inputs.experts[::-1]), limits)
    assert {e.manifest: e.selection for e in first.experts} == {
        e.manifest: e.selection for e in turned.experts
    }
    assert [e.manifest for e in turned.experts] == [e.manifest for e in first.experts][::-1]


def test_budget_zero_reads_nothing_and_no_budget_reads_everything() -> None:
    made = a_merge(1)
    nothing = plan(made.inputs, Limits(budget_bytes=0))
    assert (nothing.cost_bytes, nothing.base_cost_bytes, nothing.exact, nothing.binding) == (
        0,
        0,
        False,
        "budget",
    )
    assert all(not expert.selection for expert in nothing.experts)
    everything = plan(made.inputs, Limits())
    assert everything.exact
    assert everything.cost_bytes == full_cost(made)
    at_cost = plan(made.inputs, Limits(budget_bytes=full_cost(made)))
    assert [e.selection for e in at_cost.experts] == [e.selection for e in everything.experts]
    assert at_cost.exact


def test_max_error_reads_the_shortest_prefix_whose_bound_holds() -> None:
    made = a_merge(2, 4, scale=0.1)
    start = plan(made.inputs, Limits(budget_bytes=0)).relative_bound
    last = 0
    for share in (1.0, 0.5, 0.1, 0.01, 0.0):
        got = plan_with_order(made.inputs, Limits(max_error=share * start * (1 + 1e-6)))
        assert got.plan.relative_bound <= share * start * (1 + 1e-6)
        assert got.plan.cost_bytes >= last
        last = got.plan.cost_bytes
        units = int((np.cumsum(got.ordering.cost) <= last).sum())
        if units:
            less = math.sqrt(got.squares[units - 1])
            assert less > share * start * got.problem.certificate.norm
        assert got.plan.binding == ("max_error" if share else "none")
        assert got.plan.policy == "norms"
    assert last == full_cost(made)


def test_budget_and_error_together_name_what_binds_or_say_what_would_do() -> None:
    made = a_merge(3, 4, scale=0.1)
    full = full_cost(made)
    half = plan(made.inputs, Limits(budget_bytes=full // 2, policy="norms"))
    loose = plan(made.inputs, Limits(budget_bytes=full // 2, max_error=half.relative_bound * 1.5))
    assert loose.binding == "max_error"
    assert loose.cost_bytes < half.cost_bytes
    with pytest.raises(BudgetError) as caught:
        plan(made.inputs, Limits(budget_bytes=full // 2, max_error=half.relative_bound / 2))
    assert caught.value.exit_code == 6
    would_do = int(str(caught.value.hint).split("--budget ")[1].split(" ")[0])
    assert (
        plan(made.inputs, Limits(budget_bytes=would_do, max_error=half.relative_bound / 2)).binding
        == "max_error"
    )
    error = float(str(caught.value.hint).split("--max-error ")[1].split(" ")[0])
    plan(made.inputs, Limits(budget_bytes=full // 2, max_error=error))


def test_an_unmeasured_expert_is_read_by_whole_tensors_and_nothing_is_promised_without_it() -> None:
    made = a_merge(4, unmeasured=[0])
    full = full_cost(made)
    some = plan(made.inputs, Limits(budget_bytes=full // 2))
    flags, candidate = selected(made, some)[0], made.inputs.experts[0].candidate
    for start, stop in zip(made.inputs.grid.offsets, made.inputs.grid.offsets[1:], strict=False):
        assert len(set(flags[start:stop][candidate[start:stop]])) <= 1
    assert some.bound == some.relative_bound == math.inf
    assert list(some.fallbacks.values()) == ["no statistics"]
    assert next(iter(some.fallbacks)).startswith("0 e0")
    assert flags.any(), "half the bytes buy something of every expert"
    assert plan(made.inputs, Limits(max_error=0.01)).relative_bound <= 0.01


def test_where_nothing_can_be_promised_no_error_limit_is_offered() -> None:
    made = a_merge(4, unmeasured=[0])
    with pytest.raises(BudgetError) as refused:
        plan(made.inputs, Limits(budget_bytes=0, max_error=0.0))
    assert refused.value.hint == f"--budget {full_cost(made)} would do"
    assert plan(made.inputs, Limits(budget_bytes=full_cost(made), max_error=0.0)).exact


def test_facts_say_per_expert_how_thresholds_are_found() -> None:
    rng = np.random.default_rng(0)
    base, experts = random_family(rng, 3, "F32", 0.05, sizes=(640, 640))
    made = make(find("ties"), base, experts, [{"weight": 1.0, "density": d} for d in (0.2, 0.5, 1.0)])
    full = plan(made.inputs, Limits())
    assert full.bound_kind == "estimate"
    assert set(full.facts.values()) == {"exact,exact,none"}
    for share in (0.0, 0.3, 0.6):
        got = plan(made.inputs, Limits(budget_bytes=int(share * full_cost(made))))
        flags, offsets = selected(made, got), made.inputs.grid.offsets
        for t, name in enumerate(made.inputs.grid.keys):
            for i, word in enumerate(got.facts[name].split(",")):
                read = flags[i, offsets[t] : offsets[t + 1]].sum()
                there = made.inputs.experts[i].candidate[offsets[t] : offsets[t + 1]].sum()
                expected = "none" if i == 2 or not read else "exact" if read == there else "edge"
                assert word == expected


def test_memory_that_is_not_allowed_is_refused_by_name_and_figure() -> None:
    made = a_merge(0)
    hungry = replace(made.inputs, scratch_bytes=np.array([0, 5000, 0, 0]))
    with pytest.raises(BudgetError, match=r"5000 bytes of memory for tensor 't\.1\.w'") as refused:
        plan(hungry, Limits(memory_bytes=4999))
    assert "--memory 5000 would do" in (refused.value.hint or "")
    plan(hungry, Limits(memory_bytes=5000))


def test_a_stack_is_read_whole_or_refused() -> None:
    made = a_merge(0)
    stack = replace(made.inputs, mandatory=True)
    with pytest.raises(BudgetError, match="stacking"):
        plan(stack, Limits(budget_bytes=full_cost(made) - 1))
    assert plan(stack, Limits(budget_bytes=full_cost(made), max_error=1.0)).exact


def test_curve_falls_to_nothing_and_is_what_plans_reach() -> None:
    made = a_merge(6, 4, scale=0.1)
    planned = plan_with_order(made.inputs, Limits(policy="norms"))
    found = curve(planned, 41)
    assert (np.diff(found.bound) <= 0).all()
    assert found.bound[-1] == 0.0
    assert (found.cost_bytes <= found.budget_bytes).all()
    assert found.expected_error[-1] == 0.0
    assert (found.expected_error <= found.relative_bound * (1 + 1e-9)).all()
    for budget, bound in zip(found.budget_bytes.tolist(), found.bound.tolist(), strict=True):
        got = plan(made.inputs, Limits(budget_bytes=budget, policy="norms"))
        assert got.bound <= bound * (1 + 1e-6) + 1e-12


def test_sketches_tell_overlap_from_none() -> None:
    rng = np.random.default_rng(8)
    base = {"w": rng.standard_normal(64 * 300).astype(np.float32)}
    step, other = (rng.standard_normal(64 * 300).astype(np.float32) * 0.01 for _ in range(2))
    experts = [{"w": base["w"] + d} for d in (step, step, other, -step)]
    made = make(find("task_arithmetic"), base, experts, [{"weight": w} for w in (1.0, 2.0, 1.0, 1.0)])
    problem = build(made.inputs)
    found = problem.cosines[0]
    rows = [problem.rows.index(i) for i in range(4)]
    assert found[rows[0], rows[1]] > 0.9
    assert abs(found[rows[0], rows[2]]) < 0.1
    assert found[rows[0], rows[3]] < -0.9
    flipped = make(find("task_arithmetic"), base, experts, [{"weight": w} for w in (1.0, 2.0, 1.0, -1.0)])
    assert build(flipped.inputs).cosines[0][rows[0], rows[3]] > 0.9


def test_known_pairs_make_the_bound_tight() -> None:
    rng = np.random.default_rng(3)
    base, experts = random_family(rng, 4, "F32", 0.05, sizes=(640, 640))
    params = [{"weight": w} for w in (0.5, -0.7, 1.0, 0.3)]
    found = {}
    for pairs in ([], list(combinations(range(4), 2))):
        made = make(
            find("task_arithmetic"), base, experts, params, pairs=pairs, costs=np.random.default_rng(1)
        )
        everything = np.array([expert.candidate for expert in made.inputs.experts])
        full = merge(made, everything)
        for policy in ("norms", "sketch"):
            for share in (0.0, 0.3, 0.7):
                got = plan(made.inputs, Limits(budget_bytes=int(share * full_cost(made)), policy=policy))
                error = distance(merge(made, selected(made, got)), full)
                found[bool(pairs), policy, share] = got.bound / error
                assert error <= got.bound
    assert all(ratio < 1.001 for (known, *_), ratio in found.items() if known)
    assert found[False, "norms", 0.0] > 1.2


def test_weights_matter() -> None:
    made = a_merge(7, 2, scale=0.1)
    heavy = replace(made.inputs.experts[1], coefficient=made.inputs.experts[1].coefficient * 1e4)
    inputs = replace(made.inputs, experts=(made.inputs.experts[0], heavy))
    budget = int(heavy.frame_bytes.sum()) // 2
    for policy in ("norms", "sketch"):
        got = plan(inputs, Limits(budget_bytes=budget, policy=policy))
        assert got.experts[1].cost_bytes > 4 * got.experts[0].cost_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0), ("123", 123), ("2GiB", 2 << 30), ("2g", 2 << 30), ("500MB", 500 * 10**6), ("1.5 KiB", 1536),
        ("25%", 250), ("12.5 %", 125), ("0%", 0), (".1%", 1), ("200%", 2000), ("7B", 7), ("1TiB", 1 << 40),
        ("1", 1), ("0.0", 0), ("123.0", 123),
    ],
)  # fmt: skip
def test_budgets_that_are_understood(text: str, amount: int) -> None:
    assert parse_budget(text, 1000) == amount


@pytest.mark.parametrize(
    "text", ["", "-1", "-5%", "many", "1e3", "5 parsecs", "%", "1,5GiB", "0x10", "nan", "١٢"]
)
def test_budgets_that_are_not(text: str) -> None:
    with pytest.raises(UsageError, match="--budget") as caught:
        parse_budget(text, 1000)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("budget", "hint"),
    [
        (".25", "did you mean 25%?"), ("0.25", "did you mean 25%?"), ("1.0", "did you mean 100%?"),
        (".125 b", "did you mean 12.5%?"), ("12.5", "500MB"), ("7.5B", "500MB"),
        (0.25, "did you mean 25%?"), (1.0, "did you mean 100%?"), (1e-9, "did you mean 1e-07%?"),
    ],
)  # fmt: skip
def test_a_budget_is_no_part_of_a_byte(budget: float | str, hint: str) -> None:
    with pytest.raises(UsageError, match="is no whole number of bytes") as caught:
        parse_budget(budget_text(budget), 1000)
    assert hint in (caught.value.hint or "")


def test_budgets_of_python_code() -> None:
    amounts = {1e9: 10**9, 1e16: 10**16, 0.0: 0, np.float64(4096): 4096, 5: 5, "2k": 2048}
    for budget, amount in amounts.items():
        assert parse_budget(budget_text(budget), 1000) == amount
    for budget in (float("nan"), float("inf"), -1.0):
        with pytest.raises(UsageError, match="--budget"):
            parse_budget(budget_text(budget), 1000)


def test_error_limits() -> None:
    assert parse_max_error("1e-3") == 1e-3
    assert parse_max_error("0.5%") == 0.005
    for text in ("-1", "nan", "inf", "", "small"):
        with pytest.raises(UsageError, match="--max-error"):
            parse_max_error(text)


def test_an_unknown_policy_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="'norms'"):
        plan(a_merge(0).inputs, Limits(policy="norm"))


def test_nothing_to_merge_is_planned_as_nothing() -> None:
    made = a_merge(0, 1)
    still = replace(made.inputs.experts[0], candidate=np.zeros(made.inputs.grid.blocks, bool))
    for policy in POLICIES:
        for inputs in (replace(made.inputs, experts=(still,)), replace(made.inputs, experts=())):
            got = plan(inputs, Limits(budget_bytes=10, policy=policy))
            assert (got.exact, got.cost_bytes, got.bound, got.binding) == (True, 0, 0.0, "none")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["BF16", "F16", "F8_E4M3"]))
def test_invariant_09_where_rounding_is_at_its_worst(seed: int, dtype: str) -> None:
    """Few elements at the edges of binades, experts one or two grid steps away, weights around one half."""
    rng = np.random.default_rng(seed)
    word = np.uint8 if dtype == "F8_E4M3" else np.uint16
    base, experts = {}, [{} for _ in range(int(rng.integers(1, 4)))]
    for name in ("a", "b", "c"):
        edges = np.exp2(rng.integers(-3, 4, 3)) * rng.choice([1, 1 + 2**-7, 1 - 2**-8, 2 - 2**-7], 3)
        base[name] = rounded(edges * rng.choice([-1, 1], 3), dtype)
        for expert in experts:
            words = base[name].astype(DTYPES[dtype]).view(word).astype(int) + rng.integers(-2, 3, 3)
            moved = np.maximum(words, 0).astype(word).view(DTYPES[dtype]).astype(np.float32)
            expert[name] = np.where(np.isfinite(moved), moved, base[name]).astype(np.float32)
    params = [
        {"weight": float(w)} for w in rng.choice([0.5, 0.4999, 0.5001, 0.3, 1, -0.5, 0.251], len(experts))
    ]
    pairs = list(combinations(range(len(experts)), 2)) if seed % 2 else []
    made = make(find("task_arithmetic"), base, experts, params, dtype=dtype, costs=rng, pairs=pairs)
    full = merge(made, np.array([expert.candidate for expert in made.inputs.experts]))
    for share in (0.0, 0.3, 0.6, 0.9):
        got = plan(made.inputs, Limits(budget_bytes=int(share * full_cost(made)), policy="random"))
        assert distance(merge(made, selected(made, got)), full) <= got.bound
