"""Planning through the command: pairs, pictures, plans that no longer hold, what cannot be met."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import Command
from families import Family, write_checkpoint

from mpstore.heap import physical_bytes

MERGE = ("--base", "base", "--expert", "math", "--expert", "code", "--op", "linear")


def test_experts_are_compared_when_they_are_added_and_that_makes_the_bound_smaller(mp: Command) -> None:
    tight = mp.json("plan", *MERGE, "--budget", "5%")
    assert tight["bound_kind"] == "certificate"
    assert tight["if_compared"] is None
    for ref in (mp.directory / ".mp/refs/stats").iterdir():
        one, other = ref.name.split("-")
        if one == other:
            ref.unlink()
    shutil.rmtree(mp.directory / ".mp/logs/stats", ignore_errors=True)
    loose = mp.json("plan", *MERGE, "--budget", "5%")
    assert tight["bound"] < 0.9 * loose["bound"]
    assert loose["if_compared"]["experts"] == ["math", "code"]
    assert loose["if_compared"]["relative_bound"] == pytest.approx(tight["relative_bound"], rel=0.2)
    assert "mp analyze --pairs compares the experts" in mp("plan", *MERGE, "--budget", "5%").out
    compared = mp.json("analyze", "math", "code", "--pairs")["compared"]
    assert (compared["pairs"], compared["computed"]) == (1, 1)
    assert mp.json("analyze", "math", "code", "--pairs")["compared"]["computed"] == 0
    again = mp.json("plan", *MERGE, "--budget", "5%")
    assert (again["plan"], again["bound"]) == (tight["plan"], tight["bound"])


def test_the_curve_has_round_budgets_and_the_plan_itself(mp: Command) -> None:
    plan = mp.json("plan", *MERGE, "--budget", "12.3%")
    shares = [100 * point["budget_bytes"] / plan["full_raw_bytes"] for point in plan["curve"]]
    own = [at for at, point in enumerate(plan["curve"]) if point["this_plan"]]
    assert len(own) == 1
    point = plan["curve"][own[0]]
    assert (point["budget_bytes"], point["bound"]) == (plan["budget_bytes"], plan["bound"])
    assert shares == sorted(shares)
    others = [share for at, share in enumerate(shares[:-1]) if at not in own]
    steps = {round(b - a, 2) for a, b in pairwise(others)}
    assert len(steps) == 1, "evenly spaced but for the plan's own and the last"
    assert plan["curve"][-1]["exact"]
    told = mp("plan", *MERGE, "--budget", "12.3%").out
    assert "12.3 %" in next(line for line in told.splitlines() if line.endswith("this plan"))
    assert not any(point["this_plan"] for point in mp.json("plan", *MERGE)["curve"])


def test_a_stored_plan_is_refused_once_a_model_has_moved(mp: Command, family: Family) -> None:
    plan = mp("plan", *MERGE, "--budget", "20%", "--json").document["plan"]
    mp("merge", "--plan", plan, "--branch", "one")
    mp("add", family.experts["code"], "--branch", "math", "--base", "base")
    ended = mp("merge", "--plan", plan, "--branch", "two", code=5)
    assert "math has moved" in ended.err
    mp("replay", "one")


def test_what_cannot_be_met_is_exit_6_and_says_what_would_do(mp: Command) -> None:
    ended = mp("plan", *MERGE, "--budget", "1%", "--max-error", "1e-6", code=6)
    budget = ended.err.split("--budget ")[1].split(" ")[0]
    mp("plan", *MERGE, "--budget", budget, "--max-error", "1e-6")
    zero = mp("merge", *MERGE, "--budget", "0", "--branch", "nothing", "--json").document
    assert zero["expert_read_bytes"] == 0
    assert "0 tensors changed in 0 blocks" in mp("diff", "base", "nothing").out


def test_whole_tensors_may_take_half_of_the_machine_unless_memory_says_less(mp: Command) -> None:
    """What a repository sets aside for blocks on their way does not keep an operator from running."""
    config = mp.directory / ".mp/config"
    config.write_text(re.sub(r"memory_bytes = \d+", f"memory_bytes = {1 << 20}", config.read_text()))
    words = (*MERGE[:-1], "sce")
    ended = mp("plan", *words, "--memory", "1MiB", code=6)
    needed = int(ended.err.split("--memory ")[1].split(" ")[0])
    assert 1 << 20 < needed < physical_bytes() // 2
    mp("merge", *words, "--branch", "allowed", "--memory", str(needed))
    mp("merge", *words, "--branch", "by-itself")
    assert "no differences" in mp("diff", "allowed", "by-itself").out


@pytest.mark.parametrize("name", ["curve.png", "curve.svg"])
def test_the_curve_is_drawn(mp: Command, tmp_path: Path, name: str) -> None:
    mp("plan", *MERGE, "--budget", "10%", "--plot", tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000


def test_plan_and_merge_say_the_experts_in_one_form(mp: Command, family: Family) -> None:
    planned = mp.json("plan", *MERGE, "--budget", "30%")
    dry = mp.json("merge", *MERGE, "--budget", "30%", "--dry-run")
    stored = mp.json("plan", "--plan", planned["plan"])
    merged = mp.json("merge", *MERGE, "--budget", "30%", "--branch", "merged")
    assert planned["experts"] == dry["experts"] == stored["experts"] == merged["experts"]
    for expert in merged["experts"]:
        assert list(expert) == ["model", "commit", "manifest", "kind", "params", "planned_bytes", "raw_bytes"]
        weights = family.experts[expert["model"]].glob("*.safetensors")
        assert expert["raw_bytes"] == sum(path.stat().st_size for path in weights)
        assert expert["commit"] == mp.json("show", expert["model"])["commit"]
    assert sum(one["planned_bytes"] for one in merged["experts"]) == merged["planned_bytes"]
    assert sum(one["raw_bytes"] for one in merged["experts"]) == merged["full_raw_bytes"]
    assert set(planned) - set(merged) >= {"curve", "policy", "base"}


def test_a_plan_that_an_error_limit_decided_has_its_own_point_on_the_curve(
    mp: Command, merge_words: Callable[..., list[str]]
) -> None:
    """Its budget alone would be enough to read everything."""
    found = mp.json("plan", *merge_words("linear"), "--max-error", "1e-3", "--budget", "100%")
    assert (found["binding"], found["exact"]) == ("max_error", False)
    (own,) = [point for point in found["curve"] if point["this_plan"]]
    assert not own["exact"]
    assert (own["planned_bytes"], own["bound"]) == (found["planned_bytes"], found["bound"])
    assert found["curve"][-1]["exact"]


def test_a_base_without_floats_has_nothing_to_merge(empty: Command, tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 1)):
        write_checkpoint(tmp_path / name, {"ids": np.full(7, value, np.int64)}, shards=1)
        empty("add", tmp_path / name, "--branch", name)
    words = ["--base", "a", "--expert", "b", "--op", "linear"]
    assert empty.json("plan", *words)["exact"]
    assert empty.json("merge", *words, "--branch", "m")["new_blocks"] == 0
