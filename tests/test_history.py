"""History: order, names, limits, damage in the middle, and the graph of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commit_material import commit
from hypothesis import given
from hypothesis import strategies as st

from mpstore import history
from mpstore.errors import NotFoundError
from mpstore.records.config import Config
from mpstore.records.model import Commit, Coverage, Parent, Plan, PlanExpert
from mpstore.repository import Repo
from tests.warned import Warned

TENSORS = {"w": np.arange(200, dtype=np.float32), "v": np.ones(3, np.float32)}
PLAN = Plan(
    operator="ties",
    base_commit=b"b" * 32,
    base_manifest=b"m" * 32,
    experts=(PlanExpert("math", b"e" * 32, b"f" * 32, "full", {}, {"w": b"\xa0"}, 700),),
    params={},
    tensor_params={},
    outputs={},
    out_dtype="F32",
    seed=0,
    policy="density",
    budget_bytes=1000,
    max_error=None,
    cost_bytes=700,
    base_cost_bytes=100,
    full_raw_bytes=2000,
    full_stored_bytes=1500,
    omitted_blocks=2,
    bound=0.5,
    relative_bound=0.01,
    bound_kind="estimate",
    exact=False,
    binding="budget",
    facts={},
    fallbacks={},
    recipe="",
    base_model="base",
)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(tmp_path, Config(block_elements=64, pack_bytes=4096))


def family(repo: Repo) -> dict[str, bytes]:
    ids = {"base": commit(repo, "base", TENSORS, message="base", time_ns=100)}
    for step, name in enumerate(("math", "code")):
        ids[name] = commit(
            repo, name, TENSORS, parents=[Parent("base", ids["base"])], message=name, time_ns=200 + step
        )
    with repo.objects.writer("test") as writer:
        plan = repo.put(writer, PLAN)
        coverage = repo.put(writer, Coverage(plan, ({"w": b"\xa0"},), {"expert_read_bytes": 700}))
        writer.finish()
    roles = [Parent("base", ids["base"]), Parent("expert", ids["math"]), Parent("expert", ids["code"])]
    how = {"verb": "merge", "plan": plan.hex(), "coverage": coverage.hex(), "figures": {"seconds": 1.5}}
    for step in (1, 2):
        ids[f"merged{step}"] = commit(
            repo, "merged", TENSORS, parents=roles, message=f"merge {step}", time_ns=300 + step, how=how
        )
    return ids


def test_log_has_children_before_parents_and_names(repo: Repo) -> None:
    ids = family(repo)
    repo.refs.move("tags/v1", None, ids["base"], "", "")
    entries = history.log(repo, "merged")
    assert [entry.id for entry in entries] == [
        ids[name] for name in ("merged2", "merged1", "code", "math", "base")
    ]
    assert [entry.refs for entry in entries] == [
        ("heads/merged",),
        (),
        ("heads/code",),
        ("heads/math",),
        ("heads/base", "tags/v1"),
    ]
    assert entries[0].commit.message == "merge 2"
    assert [entry.id for entry in history.log(repo, "merged~1", 2)] == [ids["merged1"], ids["code"]]
    assert [entry.id for entry in history.log(repo, "math")] == [ids["math"], ids["base"]]
    assert history.log(repo, "math", 0) == ()
    assert len(history.log(repo)) == 5
    with pytest.raises(NotFoundError):
        history.log(repo, "mth")


def test_a_limit_reads_no_more_than_it_tells(repo: Repo) -> None:
    family(repo)
    everything = [entry.id for entry in history.log(repo)]
    for limit in range(len(everything) + 2):
        assert [entry.id for entry in history.log(repo, None, limit)] == everything[:limit]
    again = Repo.open(repo.root)
    history.log(again, "merged", 1)
    few = again.objects.meter.read_bytes("record")
    history.log(again, "merged")
    assert again.objects.meter.read_bytes("record") > 2 * few > 0


def test_an_empty_repository_has_an_empty_log(repo: Repo) -> None:
    assert history.log(repo) == ()
    with pytest.raises(NotFoundError, match="main"):
        history.log(repo, "main")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 30), max_size=3)), min_size=1, max_size=12)
)
def test_any_graph_comes_in_order(shape: list[tuple[int, list[int]]]) -> None:
    """Commits with times that tell nothing: each parent (an earlier one) comes after all its children."""
    ids = [bytes([index]) * 32 for index in range(len(shape))]
    commits = {}
    for index, (time_ns, parents) in enumerate(shape):
        edges = tuple(Parent("expert", ids[parent]) for parent in parents if parent < index)
        commits[ids[index]] = Commit(b"m" * 32, edges, "full", "", time_ns, "", {})
    ordered = history.topological(commits)
    place = {one: at for at, one in enumerate(ordered)}
    assert sorted(ordered) == sorted(ids)
    for one, record in commits.items():
        assert all(place[one] < place[parent.commit] for parent in record.parents)
    assert ordered == history.topological(dict(reversed(commits.items())))


def test_show_has_figures_and_plan(repo: Repo) -> None:
    ids = family(repo)
    detail = history.show(repo, "merged")
    assert detail.info.id == ids["merged2"]
    assert detail.info.refs == ("heads/merged",)
    assert (detail.tensors, detail.blocks, detail.lacking) == (2, 5, 0)
    assert detail.raw_bytes == sum(entry.size for entry in detail.files) > 812
    assert detail.plan is not None
    assert detail.plan.experts[0].planned_blocks == 2
    assert detail.plan.planned_bytes == 700
    assert history.show(repo, "base").plan is None


def test_history_goes_on_past_a_lost_commit(repo: Repo) -> None:
    ids = family(repo)
    lost = commit(repo, "merged", TENSORS, parents=[Parent("expert", b"\1" * 32)], time_ns=400)
    repo.progress = warned = Warned()
    assert [entry.id for entry in history.log(repo, "merged")][:3] == [lost, ids["merged2"], ids["merged1"]]
    assert len(history.log(repo, "merged")) == 6
    assert "history ends at 0101010101" in warned.said[0]


def test_a_plan_that_is_lost_is_a_warning(repo: Repo) -> None:
    commit(repo, "main", TENSORS, how={"verb": "merge", "plan": "01" * 32})
    repo.progress = warned = Warned()
    assert history.show(repo, "main").plan is None
    assert "plan cannot be read" in warned.said[0]


def test_the_graph_in_dot(repo: Repo) -> None:
    family(repo)
    commit(repo, "odd", TENSORS, message='say "hi" \\ \x1b[31m\nmore', parents=[])
    text = history.lineage_dot(history.log(repo))
    assert text.startswith("digraph")
    assert text.count("->") == 1 + 1 + 3 + 4
    assert text.count('label="expert"') == 4
    assert r"say \"hi\" \\ \\x1b[31m" in text
    assert all(
        re.fullmatch(r'(digraph .*|}|  (rankdir|node|"[0-9a-f]{64}").*)', line)
        for line in text.split("\n")[:-1]
    )


def test_a_long_history(repo: Repo) -> None:
    """Deep chains are no recursion."""
    with repo.objects.writer("test") as writer:
        record = Commit(b"m" * 32, (), "full", "", 0, "", {})
        own = repo.put(writer, record)
        for step in range(1, 1500):
            own = repo.put(writer, replace(record, parents=(Parent("previous", own),), time_ns=step))
        writer.finish()
    repo.refs.move("heads/long", None, own, "", "")
    assert [entry.commit.time_ns for entry in history.log(repo, "long")] == list(range(1499, -1, -1))
    assert history.log(repo, "long", 3)[2].id == history.log(repo, "long~2", 1)[0].id
