"""Merging with experts that were never downloaded: only what the plan selected crosses the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import Inline
from families import base_tensors, fine_tuned, read_checkpoint, write_checkpoint

from hub.conftest import files_of
from hub.server import Fault, TestHub
from mpstore.api import Repository

EXPERTS = ("one", "two", "three", "four")


class Shell:
    """`mp --json` in this process; the client's endpoint is the Hub on loopback."""

    def __init__(self, directory: Path) -> None:
        self._command = Inline(directory)

    def __call__(self, *words: object, code: int = 0) -> Any:
        ended = self._command("--json", *words, code=code)
        return json.loads(ended.out if code == 0 else ended.err)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    base = base_tensors()
    made = {"base": write_checkpoint(tmp_path / "src/base", base)}
    for number, name in enumerate(EXPERTS):
        made[name] = write_checkpoint(tmp_path / "src" / name, fine_tuned(base, 10 + number))
    return made


@pytest.fixture
def mp(tmp_path: Path, hub: TestHub, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    Repository.init(tmp_path / "work", block_elements=512).add(sources["base"], "base")
    for name in EXPERTS:
        hub.put(f"org/{name}", files_of(sources[name]))
    return Shell(tmp_path / "work")


def words(operator: str = "task_arithmetic") -> list[str]:
    chosen = ["--base", "base", "--op", operator]
    for name in EXPERTS:
        chosen += ["--expert", f"hf://org/{name}:weight=0.25"]
    return chosen


def test_a_merge_at_a_fifth_transfers_at_most_a_fifth_plus_headers(
    hub: TestHub, mp: Shell, sources: dict[str, Path]
) -> None:
    planned = mp("plan", *words(), "--budget", "20%")
    headers = hub.sent_bytes
    weights = sum(path.stat().st_size for name in EXPERTS for path in sources[name].glob("*.safetensors"))
    assert headers < weights / 20, "planning reads headers alone"
    hub.sent_bytes = 0
    merged = mp("merge", *words(), "--budget", "20%", "--branch", "merged")
    assert 0 < hub.sent_bytes <= planned["planned_bytes"] + headers
    assert planned["planned_bytes"] <= 0.2 * weights
    assert merged["budget_bytes"] <= 0.2 * weights
    assert mp("fsck", "--read-data")


def test_everything_from_the_hub_equals_everything_pulled(
    mp: Shell, sources: dict[str, Path], tmp_path: Path
) -> None:
    mp("merge", *words("ties"), "--branch", "remote")
    for name in EXPERTS:
        mp("add", sources[name], "--branch", name, "--base", "base")
    local = [word.replace("hf://org/", "") for word in words("ties")]
    mp("merge", *local, "--branch", "local")
    mp("checkout", "remote", tmp_path / "a")
    mp("checkout", "local", tmp_path / "b")
    first, second = read_checkpoint(tmp_path / "a"), read_checkpoint(tmp_path / "b")
    assert {key: array.tobytes() for key, array in first.items()} == {
        key: array.tobytes() for key, array in second.items()
    }
    assert mp("replay", "remote")["same"]


def test_what_was_fetched_is_not_fetched_again_and_a_pull_completes_it(
    hub: TestHub, mp: Shell, sources: dict[str, Path], tmp_path: Path
) -> None:
    mp("merge", *words(), "--budget", "20%", "--branch", "merged")
    hub.sent_bytes = 0
    mp("merge", *words(), "--budget", "20%", "--branch", "again", "-m", "the same")
    weights = sum(path.stat().st_size for name in EXPERTS for path in sources[name].glob("*.safetensors"))
    assert hub.sent_bytes < weights * 0.2
    refused = mp("checkout", "hub/org/one", tmp_path / "partial", code=3)
    assert "fetched" in refused["message"]
    assert "mp pull" in refused["hint"]
    pulled = mp("pull", "hf://org/one", "--branch", "one")
    assert pulled["resumed_bytes"] > 0
    size = sum(path.stat().st_size for path in sources["one"].glob("*.safetensors"))
    assert pulled["received_bytes"] < size
    mp("checkout", "one", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(sources["one"])


def test_a_fault_while_fetching_moves_nothing_and_the_next_try_succeeds(hub: TestHub, mp: Shell) -> None:
    mp("plan", *words())
    hub.faults = [Fault("status", "*.safetensors", 1000, status=403)]
    refused = mp("merge", *words(), "--branch", "merged", code=7)
    assert "org/one" in refused["message"]
    assert "merged" not in json.dumps(mp("branch"))
    hub.faults.clear()
    mp("merge", *words(), "--branch", "merged")
