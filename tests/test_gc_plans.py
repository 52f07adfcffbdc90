"""Stored plans and gc: a plan stays as long as what it reads; after that it is refused with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mpstore
from mpstore.errors import BudgetError, NotFoundError
from mpstore.records.config import Config
from mpstore.repository import Repo
from tests.families import fine_tuned, safetensors_bytes

GC = {"plain": {}, "repack": {"repack": True}, "compression": {"compression": "max"}}


def add(top: Path, name: str, tensors: dict[str, np.ndarray], base: str | None = None) -> None:
    (top / name).mkdir()
    (top / name / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    mpstore.Repository.open(top / "repo").add(top / name, name, base=base)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A base and two experts of it; something else, to be collected; a plan, half of the experts' blocks."""
    generator = np.random.default_rng(0)
    base = {f"layer{i}": generator.standard_normal((16, 32)).astype(np.float32) for i in range(2)}
    Repo.init(tmp_path / "repo", Config(block_elements=64, pack_bytes=4000))
    add(tmp_path, "base", base)
    for i, name in enumerate(("math", "code")):
        add(tmp_path, name, fine_tuned(base, i + 1), "base")
    add(tmp_path, "other", {"else": generator.standard_normal((16, 32)).astype(np.float32)})
    mpstore.Repository.open(tmp_path / "repo").delete_branch("other")
    return tmp_path


def planned(top: Path) -> str:
    repository = mpstore.Repository.open(top / "repo")
    return repository.plan(base="base", experts=["math", "code"], operator="linear", budget="50%").id.hex()


@pytest.mark.parametrize("way", GC)
def test_a_stored_plan_survives_gc_and_gives_what_it_would_have_given(top: Path, way: str) -> None:
    plan = planned(top)
    before = mpstore.Repository.open(top / "repo").merge("before", plan=plan)
    mpstore.Repository.open(top / "repo").delete_branch("before")
    report = mpstore.Repository.open(top / "repo").gc(keep_reflog_seconds=0, **GC[way])
    assert report.removed_objects > 0
    after = mpstore.Repository.open(top / "repo").merge("after", plan=plan)
    assert after.executed.manifest_id == before.executed.manifest_id
    assert after.executed.expert_read_bytes <= after.plan.cost_bytes


@pytest.mark.parametrize("way", GC)
def test_a_plan_whose_models_are_gone_is_refused_with_what_to_do(top: Path, way: str) -> None:
    plan = planned(top)
    repository = mpstore.Repository.open(top / "repo")
    repository.delete_branch("math")
    repository.gc(**GC[way])  # the reflog still has it: so has the plan
    assert mpstore.Repository.open(top / "repo").plan(plan=plan).id.hex() == plan
    repository.gc(keep_reflog_seconds=0, **GC[way])
    for verb in (lambda one: one.merge("new", plan=plan), lambda one: one.plan(plan=plan)):
        with pytest.raises(NotFoundError) as refused:
            verb(mpstore.Repository.open(top / "repo"))
        assert "plan again" in refused.value.hint
    assert "new" not in {branch.name for branch in mpstore.Repository.open(top / "repo").branches()}


def test_a_plan_that_costs_more_since_a_repack_is_refused_with_what_to_do(top: Path) -> None:
    """Its experts lean on a base that goes; one of them stands alone then, and the other leans on that."""
    generator = np.random.default_rng(5)
    origin = {f"layer{i}": generator.standard_normal((16, 32)).astype(np.float32) for i in range(2)}
    add(top, "origin", origin)
    root = top / "repo"
    for i in range(2):
        add(top, f"tuned{i}", fine_tuned(origin, i, scale=1e-7), "origin")
        repo = Repo.open(root)
        tip = repo.tip(f"tuned{i}")
        assert tip is not None
        manifest = repo.commit(tip).manifest
        with repo.objects.writer("test") as writer:  # the same content, with a history that names no base
            repo.advance(writer, f"expert{i}", None, manifest=manifest, parents=(), how={"verb": "add"})
    repository = mpstore.Repository.open(root)
    words = {"base": "base", "experts": ["expert0", "expert1"], "operator": "linear"}
    plan = repository.plan(**words)
    for branch in ("origin", "tuned0", "tuned1"):
        repository.delete_branch(branch)
    repository.gc(keep_reflog_seconds=0)
    before = mpstore.Repository.open(root).merge("before", plan=plan.id.hex())
    report = repository.gc(keep_reflog_seconds=0, repack=True)
    assert report.released_bases_objects > 0
    with pytest.raises(BudgetError, match="it takes") as refused:
        mpstore.Repository.open(root).merge("new", plan=plan.id.hex())
    assert "plan again" in refused.value.hint
    again = mpstore.Repository.open(root).merge("again", **words)
    assert again.executed.manifest_id == before.executed.manifest_id
    assert again.executed.expert_read_bytes <= again.plan.cost_bytes
