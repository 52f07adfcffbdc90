"""Executing plans: the same bits however it is done, exactly the plan's bytes, each once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from merge_material import (
    SHAPES,
    TINY,
    WIDE,
    add,
    base_tensors,
    family,
    forget,
    merge,
    plan,
    tuned,
    weights,
)

import mpstore
from mpstore import kernels
from mpstore.merge.replay import replay
from mpstore.records.config import Config
from mpstore.repository import Repo
from mpstore.store import set_read_observer

OPERATORS = ["linear", "ties", "dare_ties", "della", "model_stock"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    return family(tmp_path_factory.mktemp("family"))


def own(operator: str) -> dict[str, float] | None:
    return {} if operator == "model_stock" else None


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("budget", [None, "20%"])
def test_invariant_08_threads_memory_and_order_do_not_show(
    repo: Repo, operator: str, budget: str | None
) -> None:
    manifests = set()
    for limits in (None, TINY, WIDE):
        forget(repo)
        manifests.add(
            merge(repo, plan(repo, operator, budget=budget, own=own(operator)), limits=limits).commit
        )
    ids = {repo.commit(commit).manifest for commit in manifests}
    assert len(ids) == 1
    if budget is None:
        forget(repo)
        turned = merge(repo, plan(repo, operator, ("e2", "e0", "e1"), own=own(operator)))
        first = merge(repo, plan(repo, operator, own=own(operator)))
        assert weights(repo, turned) == weights(repo, first)


@pytest.mark.parametrize("operator", OPERATORS)
def test_invariant_08_compiled_and_reference_kernels_agree(repo: Repo, operator: str) -> None:
    found = []
    for mode in ("numpy", "auto"):  # the tests of the kernels compare every variant
        kernels.select(mode)
        forget(repo)
        found.append(merge(repo, plan(repo, operator, own=own(operator))).executed.manifest_id)
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_invariant_08_block_size_does_not_show(tmp_path: Path, dtype: type) -> None:
    found: dict[str, list[dict[str, bytes]]] = {}
    operators = OPERATORS if dtype is ml_dtypes.bfloat16 else ["ties", "della"]
    for block_elements in (64, 1024, 1 << 20):
        repo = family(tmp_path / str(block_elements), block_elements=block_elements, dtype=dtype)
        for operator in operators:
            merged = merge(repo, plan(repo, operator, own=own(operator)))
            found.setdefault(operator, []).append(weights(repo, merged))
    for operator, contents in found.items():
        assert contents[0] == contents[1] == contents[2], operator


@pytest.mark.parametrize("operator", OPERATORS)
def test_invariant_08_a_budget_that_covers_everything_is_the_full_merge(repo: Repo, operator: str) -> None:
    full = plan(repo, operator, own=own(operator))
    covered = plan(repo, operator, own=own(operator), budget=str(full.full_stored_bytes))
    assert covered.exact
    forget(repo)
    first = merge(repo, full).executed.manifest
    forget(repo)
    assert merge(repo, covered).executed.manifest.tensors == first.tensors


@pytest.mark.parametrize("budget", ["0", "7%", None])
def test_invariant_10_a_replayed_plan_gives_the_same_manifest(repo: Repo, budget: str | None) -> None:
    for operator in OPERATORS:
        result = merge(repo, plan(repo, operator, budget=budget, own=own(operator)))
        again = replay(repo, result.commit)
        assert again.same
        assert again.replayed_manifest == result.executed.manifest_id


class Audit:
    """Every read of a pack while it is on: by purpose, and how often each place was read."""

    def __init__(self) -> None:
        self.read_bytes: Counter[str] = Counter()
        self.places: Counter[tuple[str, int, int]] = Counter()

    def __enter__(self) -> Audit:
        set_read_observer(self._saw)
        return self

    def __exit__(self, *_: object) -> None:
        set_read_observer(None)

    def _saw(self, path: str, offset: int, length: int, purpose: str) -> None:
        self.read_bytes[purpose] += length
        if purpose in ("expert", "base"):
            self.places[path, offset, length] += 1


@pytest.mark.parametrize("limits", [None, TINY], ids=["roomy", "spilling"])
@pytest.mark.parametrize("budget", ["5%", "15%", "30%", None])
@pytest.mark.parametrize("operator", ["linear", "ties", "model_stock"])
def test_invariant_07_reads_stay_within_cost_and_cost_within_budget(
    repo: Repo, operator: str, budget: str | None, limits: object
) -> None:
    decided = plan(repo, operator, budget=budget, own=own(operator))
    assert decided.budget_bytes is None or decided.cost_bytes <= decided.budget_bytes
    forget(repo)
    with Audit() as audit:
        result = merge(repo, decided, limits=limits)
    assert audit.read_bytes["expert"] == result.executed.expert_read_bytes <= decided.cost_bytes
    assert audit.read_bytes["base"] == result.executed.base_read_bytes <= decided.base_cost_bytes
    assert set(audit.places.values()) <= {1}
    if limits is TINY and operator != "linear" and budget is None:
        assert result.executed.counters.spilled_bytes > 0


def test_invariant_07_the_whole_plan_is_read(repo: Repo) -> None:
    for budget in ("10%", None):
        forget(repo)
        decided = plan(repo, "linear", budget=budget)
        assert merge(repo, decided).executed.expert_read_bytes == decided.cost_bytes


def test_nothing_read_is_the_base_and_writes_nothing(repo: Repo) -> None:
    forget(repo)
    result = merge(repo, plan(repo, "ties", budget="0"))
    base = repo.manifest(repo.commit(repo.tip("base")).manifest)
    assert result.executed.manifest.tensors == base.tensors
    document = result.as_json()
    for key in ("planned_bytes", "expert_read_bytes", "base_read_bytes", "new_blocks"):
        assert document[key] == 0, key
    entries = {entry.path: entry for entry in result.executed.manifest.files}
    assert entries["model.safetensors"].sha256  # unchanged, so still known


def test_foreign_delta_bases_are_read_once_and_paid(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo", Config(block_elements=64))
    base = base_tensors()
    add(repo, tmp_path, "base", base)
    other = {key: (array.astype(np.float32) * 3).astype(array.dtype) for key, array in base.items()}
    add(repo, tmp_path, "other", other)
    middle = tuned(base, 5, scale=1e-3)
    # Experts that resemble `other`, not the base of the merge, so their frames lean on it.
    for number in range(2):
        near = tuned(other, 8 + number, scale=1e-3, stretch=0)
        add(repo, tmp_path, f"e{number}", near, "other")
    add(repo, tmp_path, "e2", middle, "base")
    decided = plan(repo, "linear")
    assert any("statistics" in why for why in decided.fallbacks.values())
    with Audit() as audit:
        result = merge(repo, decided)
    assert audit.read_bytes["expert"] == decided.cost_bytes
    assert set(audit.places.values()) == {1}
    wide = [tuned(other, seed, scale=1e-3, stretch=0) for seed in (8, 9)] + [middle]
    for key, got in weights(repo, result).items():
        mean = sum(model[key].astype(np.float64) for model in wide) / 3
        found = np.frombuffer(got, ml_dtypes.bfloat16).astype(np.float64)
        assert np.allclose(found, mean.reshape(-1), atol=2e-3)


def test_a_base_that_is_itself_delta_coded(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo", Config(block_elements=64))
    root = base_tensors()
    add(repo, tmp_path, "root", root)
    base = tuned(root, 3)
    add(repo, tmp_path, "base", base, "root")
    for number in range(3):
        add(repo, tmp_path, f"e{number}", tuned(base, 10 + number), "base")
    for operator in ("linear", "ties"):
        decided = plan(repo, operator)
        forget(repo)
        with Audit() as audit:
            result = merge(repo, decided, "merged-again" if operator == "ties" else "merged")
        assert audit.read_bytes["expert"] <= decided.cost_bytes
        assert audit.read_bytes["base"] <= decided.base_cost_bytes
        assert replay(repo, result.commit).same


def test_delta_checkpoints_count_as_their_full_weights(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo", Config(block_elements=64))
    base = base_tensors(np.float32)
    add(repo, tmp_path, "base", base)
    for number in range(3):
        full = tuned(base, 20 + number)
        delta = {key: full[key] - base[key] for key in base}
        add(repo, tmp_path, f"e{number}", full, "base")
        add(repo, tmp_path, f"d{number}", delta, "base", kind="delta")
    for operator in ("linear", "ties"):
        of_full = merge(repo, plan(repo, operator), f"full-{operator}")
        of_delta = merge(repo, plan(repo, operator, ("d0", "d1", "d2")), f"delta-{operator}")
        mixed = merge(repo, plan(repo, operator, ("d0", "e1", "d2")), f"mixed-{operator}")
        for key in SHAPES:
            arrays = [repo.read_tensor(one.executed.manifest, key) for one in (of_full, of_delta, mixed)]
            assert np.allclose(arrays[0], arrays[1], atol=1e-6)
            assert np.allclose(arrays[0], arrays[2], atol=1e-6)


@pytest.mark.parametrize("odd", [-np.inf, np.nan])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_invariant_08_what_base_and_expert_share_counts_as_no_difference(
    tmp_path: Path, dtype: type, odd: float
) -> None:
    """Not even infinities and NaN, whether statistics count or the merge: measuring changes nothing."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(1000).astype(dtype)
    expert = (base.astype(np.float32) + rng.standard_normal(1000)).astype(dtype)
    base[:300] = expert[:300] = odd
    moved = set()
    for block_elements, measured in ((64, True), (64, False), (4096, True)):
        name = f"{block_elements}-{measured}"
        repo = Repo.init(tmp_path / name / "repo", Config(block_elements=block_elements))
        tip = add(repo, tmp_path / name, "base", {"w": base})
        add(repo, tmp_path / name, "e0", {"w": expert}, "base" if measured else None)
        result = merge(repo, plan(repo, "ties", ("e0",), own={"weight": 1.0, "density": 0.5}))
        moved.add(weights(repo, result)["w"])
        assert "0" not in result.executed.counters.nonfinite["w"]  # the expert's deltas are numbers
        if not measured:
            mpstore.Repository.open(repo.root).analyze("e0", base="base")
            assert replay(repo, result.commit).same
        assert repo.statistics(repo.commit(tip).manifest, repo.commit(repo.tip("e0")).manifest) is not None
    assert len(moved) == 1
    out = np.frombuffer(moved.pop(), np.uint8).reshape(1000, -1)
    changed = int((out != base.view(np.uint8).reshape(1000, -1)).any(axis=1).sum())
    assert 500 <= changed < 520  # equal magnitudes at the threshold are all kept
