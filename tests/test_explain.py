"""Explain: what plan, coverage and block ids tell about a merge, against blocks laid out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commit_material import commit, put_checkpoint
from test_history import PLAN

from mpstore.errors import DamagedError, NotFoundError, UsageError
from mpstore.explain import Explanation, explain
from mpstore.records.config import Config
from mpstore.records.model import Coverage, Parent, PlanExpert
from mpstore.repository import Repo

BASE = {"w": np.arange(10 * 64, dtype=np.float32), "v": np.ones(64, np.float32)}


def packed(*blocks: int) -> bytes:
    flags = np.zeros(10, bool)
    flags[list(blocks)] = True
    return np.packbits(flags).tobytes()


def changed(*blocks: int, by: float) -> dict[str, np.ndarray]:
    tensor = BASE["w"].copy()
    for block in blocks:
        tensor[block * 64] += by
    return {**BASE, "w": tensor}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(tmp_path, Config(block_elements=64, pack_bytes=4096))


def merged(repo: Repo, touched: tuple[dict[str, bytes], ...] | None = None, **changes: object) -> bytes:
    """Math differs in blocks 1, 2, 3 of w and all of v, code in 3 and 4 of w. Math 1, 3 and code 3 are read;
    the output is the base but for 1 and 3."""
    base = commit(repo, "base", BASE)
    math = commit(repo, "math", {**changed(1, 2, 3, by=1.0), "v": np.zeros(64, np.float32)})
    code = commit(repo, "code", {"w": changed(3, 4, by=2.0)["w"]})
    manifests = {name: repo.commit(one).manifest for name, one in (("b", base), ("m", math), ("c", code))}
    plan = replace(
        PLAN,
        base_commit=base,
        base_manifest=manifests["b"],
        experts=(
            PlanExpert("math", math, manifests["m"], "full", {"density": 0.2}, {"w": packed(1, 3)}, 700),
            PlanExpert("code", code, manifests["c"], "full", {"density": 0.2}, {"w": packed(3)}, 300),
        ),
        tensor_params={"w": {"global": {"lambda": 0.5}, "experts": [{"density": 0.1}, {}]}},
        facts={"w": "edge,exact"},
        fallbacks={"1 code: *": "no statistics"},
        **changes,
    )
    with repo.objects.writer("test") as writer:
        plan_id = repo.put(writer, plan)
        realized = touched or tuple(expert.selection for expert in plan.experts)
        coverage = repo.put(writer, Coverage(plan_id, realized, {"expert_read_bytes": 1000}))
        out = put_checkpoint(repo, writer, changed(1, 3, by=3.0), {})
        parents = [Parent("base", base), Parent("expert", math), Parent("expert", code)]
        how = {"verb": "merge", "plan": plan_id.hex(), "coverage": coverage.hex()}
        return repo.advance(writer, "merged", None, manifest=out, parents=parents, how=how)


def test_planned_against_realized(repo: Repo) -> None:
    own = merged(repo)
    found = explain(repo, "merged")
    assert isinstance(found, Explanation)
    assert found.commit == own
    assert found.as_planned
    assert found.plan.operator == "ties"
    assert found.figures == {"expert_read_bytes": 1000}
    math, code = found.experts
    assert (math.model, math.tensors, math.planned_blocks, math.realized_blocks, math.planned_bytes) == (
        "math",
        1,
        2,
        2,
        700,
    )
    assert (code.tensors, code.planned_blocks, code.planned_bytes) == (1, 1, 300)
    by_key = {tensor.key: tensor for tensor in found.tensors}
    assert sorted(by_key) == ["v", "w"]
    w = by_key["w"]
    assert (w.dtype, w.shape, w.blocks, w.changed_blocks) == ("F32", (640,), 10, 2)
    assert w.params == {"lambda": 0.5}
    first, second = w.experts
    assert (first.planned_blocks, first.equal_blocks, first.omitted_blocks) == (2, 7, 1)
    assert (second.planned_blocks, second.equal_blocks, second.omitted_blocks) == (1, 8, 1)
    assert (first.threshold, second.threshold) == ("edge", "exact")
    assert (first.fallback, second.fallback) == ("", "no statistics")
    assert (first.params, second.params) == ({"density": 0.1}, {})
    assert first.stored_bytes is None
    v = by_key["v"]
    assert v.changed_blocks == 0
    assert [(one.planned_blocks, one.equal_blocks, one.omitted_blocks) for one in v.experts] == [
        (0, 0, 1),
        (0, 1, 0),
    ]
    assert v.experts[0].threshold == "none"


def test_one_tensor_has_bytes(repo: Repo) -> None:
    merged(repo)
    (tensor,) = explain(repo, "merged", ["w"]).tensors
    record = repo.tensors(repo.manifest(repo.commit(repo.tip("math")).manifest))["w"]
    places = repo.objects.locate(record.block_ids)
    assert tensor.experts[0].stored_bytes == int(places.frame_bytes[[1, 3]].sum())
    assert len(explain(repo, "merged", ["*"]).tensors) == 2
    with pytest.raises(NotFoundError, match="no tensor fits"):
        explain(repo, "merged", ["layers.*"])


def test_a_merge_that_did_something_else_says_so(repo: Repo) -> None:
    merged(repo, touched=({"w": packed(1)}, {"w": packed(3)}))
    found = explain(repo, "merged")
    assert not found.as_planned
    assert found.experts[0].realized_blocks == 1
    assert next(tensor for tensor in found.tensors if tensor.key == "w").experts[0].realized_blocks == 1


def test_what_is_no_merge(repo: Repo) -> None:
    commit(repo, "base", BASE)
    with pytest.raises(UsageError, match="made by add"):
        explain(repo, "base")


def test_adapters_and_lost_experts_are_not_guessed_at(repo: Repo) -> None:
    own = merged(repo)
    plan_id = bytes.fromhex(repo.commit(own).how["plan"])
    plan = repo.plan(plan_id)
    experts = (replace(plan.experts[0], kind="lora"), replace(plan.experts[1], manifest=b"\1" * 32))
    with repo.objects.writer("test") as writer:
        other = repo.put(writer, replace(plan, experts=experts))
        coverage = repo.put(writer, Coverage(other, tuple(one.selection for one in experts), {}))
        how = {"verb": "merge", "plan": other.hex(), "coverage": coverage.hex(), "figures": {"seconds": 1}}
        repo.advance(writer, "other", None, manifest=repo.commit(own).manifest, how=how)
    found = explain(repo, "other", ["w"])
    assert found.figures == {"seconds": 1}
    for one in found.tensors[0].experts:
        assert (one.equal_blocks, one.omitted_blocks) == (None, None)
    assert found.tensors[0].experts[1].stored_bytes is None
    assert found.tensors[0].experts[0].planned_blocks == 2


def test_a_coverage_of_another_plan_is_damage(repo: Repo) -> None:
    own = merged(repo)
    with repo.objects.writer("test") as writer:
        coverage = repo.put(writer, Coverage(b"\2" * 32, (), {}))
        how = {**repo.commit(own).how, "coverage": coverage.hex()}
        repo.advance(writer, "odd", None, manifest=repo.commit(own).manifest, how=how)
        repo.advance(writer, "worse", None, manifest=repo.commit(own).manifest, how={**how, "plan": "xyz"})
    for branch in ("odd", "worse"):
        with pytest.raises(DamagedError):
            explain(repo, branch)


def test_a_stack_of_layers_is_told_by_its_sources(repo: Repo) -> None:
    own = merged(repo)
    plan = repo.plan(bytes.fromhex(repo.commit(own).how["plan"]))
    stacked = replace(
        plan,
        operator="passthrough",
        outputs={"w": {"model": 1, "key": "w"}, "v": {"model": 0, "key": "v"}},
        experts=(
            replace(plan.experts[0], selection={"w": b"\xff\xc0"}),
            replace(plan.experts[1], selection={}),
        ),
    )
    with repo.objects.writer("test") as writer:
        plan_id = repo.put(writer, stacked)
        coverage = repo.put(writer, Coverage(plan_id, tuple(one.selection for one in stacked.experts), {}))
        how = {"verb": "merge", "plan": plan_id.hex(), "coverage": coverage.hex()}
        repo.advance(writer, "stack", None, manifest=repo.commit(own).manifest, how=how)
    (w,) = explain(repo, "stack", ["w"]).tensors
    assert (w.blocks, w.changed_blocks) == (10, 10)
    assert [reach.planned_blocks for reach in w.experts] == [10, 0]
    assert (w.experts[0].equal_blocks, w.experts[0].omitted_blocks) == (None, None)
    assert w.experts[0].stored_bytes > w.experts[1].stored_bytes == 0
