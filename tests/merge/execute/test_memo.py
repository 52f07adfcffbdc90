"""The memo: what was made is found again, and nothing is believed that should not be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest
from merge_material import SHAPES, add, base_tensors, family, forget, merge, plan, tuned

from mpstore.merge.execute import apply
from mpstore.merge.execute.executor import Executor
from mpstore.merge.execute.limits import Limits
from mpstore.merge.execute.memo import Memo, key_of
from mpstore.merge.execute.work import TensorWork
from mpstore.merge.replay import replay
from mpstore.repository import Repo
from mpstore.store import ObjectStore, ObjectWriter

WORKER = Path(__file__).with_name("interrupted_merge.py")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return family(tmp_path, experts=2)


TWO = ("e0", "e1")


@pytest.mark.parametrize("operator", ["linear", "ties", "dare_ties", "model_stock", "della"])
def test_a_second_merge_reads_and_makes_nothing(repo: Repo, operator: str) -> None:
    own = {} if operator == "model_stock" else None
    first = merge(repo, plan(repo, operator, TWO, own=own))
    again = merge(repo, plan(repo, operator, TWO, own=own))
    assert first.executed.expert_read_bytes > 0
    assert again.executed.expert_read_bytes == again.executed.base_read_bytes == 0
    assert again.executed.new_blocks == 0
    assert again.executed.manifest_id == first.executed.manifest_id
    assert repo.commit(again.commit).parents[0].commit == first.commit  # a branch is one model's history


def test_deleting_the_memo_costs_work_only(repo: Repo) -> None:
    first = merge(repo, plan(repo, "ties", TWO))
    forget(repo)
    again = merge(repo, plan(repo, "ties", TWO))
    assert again.executed.expert_read_bytes == first.executed.expert_read_bytes
    assert again.executed.manifest_id == first.executed.manifest_id


def test_other_parameters_are_other_blocks(repo: Repo) -> None:
    first = merge(repo, plan(repo, "ties", TWO))
    for own, params, seed in (
        ({"weight": 0.6, "density": 0.4}, {}, 0),
        ({"weight": 0.5, "density": 0.3}, {}, 0),
        ({"weight": 0.5, "density": 0.4}, {"lambda": 0.9}, 0),
    ):
        result = merge(repo, plan(repo, "ties", TWO, own=own, params=params, seed=seed))
        assert result.executed.counters.memo_blocks == 0
        assert result.executed.manifest_id != first.executed.manifest_id
        assert replay(repo, result.commit).same
    drawn = merge(repo, plan(repo, "dare_ties", TWO, seed=1)).executed
    other = merge(repo, plan(repo, "dare_ties", TWO, seed=2)).executed
    assert other.counters.memo_blocks == 0
    assert other.manifest_id != drawn.manifest_id


@pytest.mark.parametrize("operator", ["linear", "ties"])
def test_an_expert_changed_in_one_layer_recomputes_that_layer(tmp_path: Path, operator: str) -> None:
    repo = family(tmp_path, experts=4)
    names = ("e0", "e1", "e2", "e3")
    merge(repo, plan(repo, operator, names))
    base = base_tensors()
    key = "model.layers.1.mlp.weight"
    blocks = repo.tensors(repo.manifest(repo.commit(repo.tip("base")).manifest))[key].blocks
    for seed in range(3):  # another content, another place among the experts
        changed = tuned(base, 2, [list(SHAPES)[1]])  # as e1 was
        changed[key] = tuned({key: base[key]}, 99 + seed)[key]
        add(repo, tmp_path / str(seed), "e1", changed, "base")
        result = merge(repo, plan(repo, operator, names))
        assert 0 < result.executed.new_blocks <= blocks
        assert result.executed.expert_read_bytes < result.plan.cost_bytes / 2
        assert replay(repo, result.commit).same


def test_a_wider_budget_makes_only_what_is_new(repo: Repo) -> None:
    merge(repo, plan(repo, "linear", TWO, budget="15%"))
    wider = merge(repo, plan(repo, "linear", TWO, budget="40%"))
    assert 0 < wider.executed.expert_read_bytes < wider.plan.cost_bytes


def test_a_damaged_memo_is_as_none(repo: Repo) -> None:
    first = merge(repo, plan(repo, "ties", TWO))
    for path in Path(repo.root, "cache", "memo").iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    again = merge(repo, plan(repo, "ties", TWO))
    assert again.executed.manifest_id == first.executed.manifest_id
    assert again.executed.counters.memo_blocks == 0


def test_an_entry_whose_block_is_gone_is_made_again(repo: Repo) -> None:
    merge(repo, plan(repo, "linear", TWO))
    memo = Memo(Path(repo.root, "cache", "memo"), Path(repo.root, "tmp"))
    assert memo._known
    lying = {key: bytes(32) for key in memo._known}
    forget(repo)
    for key, value in lying.items():
        memo.put(key, value)
    memo.flush()
    assert replay(repo, merge(repo, plan(repo, "linear", TWO)).commit).same


def test_keys_tell_parts_apart(tmp_path: Path) -> None:
    assert key_of("a", b"bc") != key_of("ab", b"c")
    assert key_of(1, None) != key_of(None, 1)
    memo = Memo(tmp_path / "memo", tmp_path)
    for number in range(100):
        memo.put(key_of(number), number.to_bytes(32, "big"))
        memo.flush()
    fresh = Memo(tmp_path / "memo", tmp_path)
    assert all(fresh.get(key_of(number)) == number.to_bytes(32, "big") for number in range(100))
    assert len(list((tmp_path / "memo").iterdir())) <= 40


def held_back(monkeypatch: pytest.MonkeyPatch, let_go: Callable[[], bool]) -> list[str]:
    """Have what a merge does first take until `let_go` says so; the tensors that were worked on before it."""
    merge_pieces = apply.merge_pieces
    done: list[str] = []
    began: list[str] = []

    def slow(store: ObjectStore, writer: ObjectWriter, work: TensorWork, *rest: Any) -> Any:
        began.append(work.key)
        is_first = len(began) == 1
        deadline = time.monotonic() + 30
        while is_first and not let_go():
            assert time.monotonic() < deadline, f"only {done} meanwhile"
            time.sleep(0.01)
        made = merge_pieces(store, writer, work, *rest)
        done.append(work.key)
        return made

    monkeypatch.setattr(apply, "merge_pieces", slow)
    return done


def memo_entries(repo: Repo) -> int:
    return len(Memo(Path(repo.root, "cache", "memo"), Path(repo.root, "tmp"))._known)


def test_what_is_done_behind_a_slow_tensor_is_kept(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that is killed meanwhile has it in the memo, and its blocks in the store."""
    done = held_back(monkeypatch, lambda: memo_entries(repo) > 0)
    limits = Limits(threads=2, flush_seconds=0.1)
    result = merge(repo, plan(repo, "linear", TWO), limits=limits)
    assert len(done) > 2
    assert replay(repo, result.commit).same


def test_what_comes_just_when_it_is_time_to_flush(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every result, the last one included, is there right after it was waited for in vain."""
    waited: list[Future[Any]] = []

    def too_late(_: Executor, future: Future[Any]) -> bool:
        wait([future])
        waited.append(future)
        return waited.count(future) > 1

    monkeypatch.setattr(Executor, "_came", too_late)
    result = merge(repo, plan(repo, "linear", TWO))
    assert waited
    assert replay(repo, result.commit).same


def test_what_is_done_behind_what_fails_is_kept(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def fail() -> bool:
        if len(done) > 2:
            raise Stopped
        return False

    done = held_back(monkeypatch, fail)
    with pytest.raises(Stopped):
        merge(repo, plan(repo, "linear", TWO), limits=Limits(threads=2, flush_seconds=100))
    assert memo_entries(repo) > 0
    monkeypatch.undo()
    result = merge(repo, plan(repo, "linear", TWO))
    assert result.executed.counters.memo_blocks > 0
    assert replay(repo, result.commit).same


@pytest.mark.parametrize(("operator", "how"), [("linear", "SIGINT"), ("ties", "SIGKILL")])
def test_an_interrupted_merge_goes_on(repo: Repo, how: str, operator: str) -> None:
    words = [sys.executable, str(WORKER), repo.root, operator, how]
    ended = subprocess.run(words, capture_output=True, timeout=100, check=False, env=_environment())
    assert ended.returncode == -getattr(signal, how), ended.stderr.decode()
    assert repo.tip("merged") is None
    fresh = Repo.open(repo.root)
    decided = plan(fresh, operator, TWO)
    rest = merge(fresh, decided)
    assert rest.executed.counters.memo_blocks > 0
    assert rest.executed.expert_read_bytes < decided.cost_bytes
    assert replay(fresh, rest.commit).same


def _environment() -> dict[str, str]:
    here = Path(__file__)
    paths = [str(here.parents[3]), str(here.parents[2]), str(here.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
