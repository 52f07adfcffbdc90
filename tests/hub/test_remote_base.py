"""Merging onto a base that was never pulled: planned from headers, fetched whole before the merge, kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import base_tensors, read_checkpoint, safetensors_bytes

from hub.conftest import Shell, files_of, written
from hub.server import Fault, TestHub
from mpstore.api import Repository

EXPERTS = ("one", "two")
WEIGHTS = "*.safetensors"


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return written(tmp_path / "src", EXPERTS)


@pytest.fixture
def mp(tmp_path: Path, hub: TestHub, sources: dict[str, Path]) -> Shell:
    """An empty repository; the base on the Hub has its weights a second time, pickled."""
    Repository.init(tmp_path / "work", block_elements=512)
    for name, directory in sources.items():
        pickled = {"pytorch_model.bin": b"\x80" * 300_000} if name == "base" else {}
        hub.put(f"org/{name}", {**files_of(directory), **pickled})
    return Shell(tmp_path / "work")


def words(base: str = "hf://org/base", experts: tuple[str, ...] = EXPERTS) -> list[str]:
    chosen = ["--base", base, "--op", "task_arithmetic"]
    for name in experts:
        chosen += ["--expert", f"hf://org/{name}:weight=0.25"]
    return chosen


def weight_bytes(sources: dict[str, Path], *names: str) -> int:
    return sum(path.stat().st_size for name in names for path in sources[name].glob(WEIGHTS))


def checked_out(mp: Shell, revision: str, into: Path) -> dict[str, bytes]:
    mp("checkout", revision, into)
    return files_of(into)


def without_card(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path != "README.md"}


def test_the_result_is_that_of_a_base_that_was_added(
    mp: Shell, hub: TestHub, sources: dict[str, Path], tmp_path: Path
) -> None:
    mp("merge", *words(), "--branch", "remote")
    mp("add", sources["base"], "--branch", "base")
    mp("merge", *words("base"), "--branch", "local")
    remote = checked_out(mp, "remote", tmp_path / "remote")
    assert without_card(remote) == without_card(checked_out(mp, "local", tmp_path / "local"))
    assert {"config.json", "tokenizer.json"} < set(remote)
    assert mp("replay", "remote")["same"]
    assert mp("fsck", "--read-data")
    assert not [path for _, path, _ in hub.requests if path.endswith(".bin")]


def test_the_base_stays_under_its_name_and_is_not_fetched_again(
    mp: Shell, hub: TestHub, sources: dict[str, Path], tmp_path: Path
) -> None:
    first = mp("merge", *words(), "--branch", "first")
    assert first["received_bytes"] > weight_bytes(sources, "base")
    (origin,) = [one for one in mp("remote")["remotes"] if one["branch"] == "hub/org/base"]
    assert origin["commit"] == hub.shelf.commit_of("org/base", "main")
    assert origin["exclude"] == ["*.bin"]
    assert checked_out(mp, "hub/org/base", tmp_path / "out") == files_of(sources["base"])
    hub.sent_bytes = 0
    again = mp("merge", *words(), "--branch", "again", "-m", "once more")
    assert again["received_bytes"] == hub.sent_bytes == 0
    assert again["manifest"] == first["manifest"]
    assert not mp("pull", "hub/org/base")["new"]


def test_planning_reads_headers_and_says_what_would_come(
    mp: Shell, hub: TestHub, sources: dict[str, Path]
) -> None:
    planned = mp("plan", *words(), "--budget", "20%")
    headers = hub.sent_bytes
    assert headers < weight_bytes(sources, "base", *EXPERTS) / 20
    tensors = sum(array.nbytes for array in base_tensors().values())
    assert planned["base_network_bytes"] == tensors
    assert planned["expert_network_bytes"] == planned["planned_bytes"] > 0
    merged = mp("merge", *words(), "--budget", "20%", "--branch", "merged")
    assert merged["planned_bytes"] <= 0.2 * weight_bytes(sources, *EXPERTS), "the base is in no budget"
    small = sum(len(data) for path, data in files_of(sources["base"]).items() if not path.endswith("tensors"))
    assert hub.sent_bytes - headers == tensors + small + merged["planned_bytes"]
    assert merged["received_bytes"] == hub.sent_bytes - headers


def test_a_plan_made_from_headers_is_executed_as_it_is(mp: Shell, hub: TestHub) -> None:
    planned = mp("plan", *words())
    assert mp("plan", "--plan", planned["plan"])["base_network_bytes"] == planned["base_network_bytes"]
    merged = mp("merge", "--plan", planned["plan"], "--branch", "planned")
    assert merged["planned_bytes"] == planned["planned_bytes"]
    assert mp("merge", *words(), "--branch", "direct")["manifest"] == merged["manifest"]
    assert mp("replay", "planned")["same"]
    hub.sent_bytes = 0
    mp("merge", "--plan", planned["plan"], "--branch", "again", "-m", "again")
    assert hub.sent_bytes == 0 or hub.sent_bytes <= planned["expert_network_bytes"]


def test_a_local_expert_on_a_base_of_the_hub(mp: Shell, sources: dict[str, Path]) -> None:
    """A directory and a branch; the directory is added against the base, once that is there."""
    mp("add", sources["one"], "--branch", "one")
    chosen = ["--base", "hf://org/base", "--op", "linear", "--expert", "one", "--expert", sources["two"]]
    planned = mp("plan", "--base", "hf://org/base", "--op", "linear", "--expert", "one")
    assert "base's weights are not in the store" in planned["fallbacks"]["0 one: *"]
    mp("merge", *chosen, "--branch", "merged")
    mp("add", sources["two"], "--branch", "two", "--base", "hub/org/base")
    local = ["--base", "hub/org/base", "--op", "linear", "--expert", "one", "--expert", "two"]
    mp("merge", *local, "--branch", "local")
    assert not mp("diff", "merged", "local")["tensors"]


def test_a_recipe_whose_first_model_is_the_base(
    mp: Shell, hub: TestHub, sources: dict[str, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yml"
    models = "".join(f"  - model: hf://org/{name}\n    parameters: {{weight: 0.5}}\n" for name in EXPERTS)
    recipe.write_text(f"merge_method: linear\nmodels:\n{models}dtype: bfloat16\n")
    merged = mp("merge", recipe, "--branch", "merged")
    assert [expert["planned_bytes"] > 0 for expert in merged["experts"]] == [False, True]
    assert hub.sent_bytes < weight_bytes(sources, *EXPERTS) + 20_000, "the first is fetched once"
    mp("checkout", "merged", tmp_path / "out")
    first, second = read_checkpoint(sources["one"]), read_checkpoint(sources["two"])
    for key, array in read_checkpoint(tmp_path / "out").items():
        mean = (first[key].astype(np.float32) + second[key].astype(np.float32)) / 2
        assert np.abs(array.astype(np.float32) - mean).max() < 0.01
    recipe.write_text(recipe.read_text() + "base_model: hf://org/base\n")
    assert mp("merge", recipe, "--branch", "named")["manifest"] != merged["manifest"]


STACK = """
merge_method: passthrough
slices:
  - sources: [{model: "hf://org/base", layer_range: [0, 2]}]
  - sources: [{model: "hf://org/one", layer_range: [1, 2], parameters: {scale: 0.5}}]
"""


def test_a_stack_of_layers_from_the_hub(
    mp: Shell, hub: TestHub, sources: dict[str, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "stack.yml"
    recipe.write_text(STACK)
    planned = mp("plan", recipe)
    assert hub.sent_bytes < 15_000
    assert planned["base_network_bytes"] + planned["expert_network_bytes"] > 1.9 * sum(
        array.nbytes for array in base_tensors().values()
    )
    mp("merge", recipe, "--branch", "stacked")
    for name in ("base", "one"):
        mp("add", sources[name], "--branch", name)
    recipe.write_text(STACK.replace('"hf://org/base"', "base").replace('"hf://org/one"', "one"))
    mp("merge", recipe, "--branch", "local")
    assert not mp("diff", "stacked", "local")["tensors"]
    assert mp("merge", "--plan", planned["plan"], "--branch", "planned")["reused_blocks"] > 0


def test_a_base_that_is_here_under_another_name_is_not_fetched(
    mp: Shell, hub: TestHub, sources: dict[str, Path]
) -> None:
    mp("add", sources["base"], "--branch", "mine")
    planned = mp("plan", *words())
    assert planned["base_network_bytes"] == 0
    hub.sent_bytes = 0
    merged = mp("merge", *words(), "--branch", "merged")
    assert hub.sent_bytes == merged["planned_bytes"]
    assert "hub/org/base" not in [one["branch"] for one in mp("remote")["remotes"]]


def test_weights_alone_are_no_base_but_are_not_fetched_again(
    mp: Shell, hub: TestHub, sources: dict[str, Path], tmp_path: Path
) -> None:
    mp("pull", "hf://org/base", "--include", WEIGHTS, "--branch", "weights")
    hub.sent_bytes = 0
    mp("merge", *words(experts=()), "--expert", "hf://org/one:weight=1", "--branch", "merged")
    assert hub.sent_bytes < weight_bytes(sources, "one") + 20_000
    assert "tokenizer.json" in checked_out(mp, "merged", tmp_path / "out")


def test_what_does_not_fit_is_said_before_weights_come(mp: Shell, hub: TestHub) -> None:
    other = {key: array[..., :32] for key, array in base_tensors().items()}
    hub.put("org/other", {"model.safetensors": safetensors_bytes(other)})
    refused = mp("merge", *words(experts=("other",)), "--branch", "merged", code=8)
    assert "shape" in refused["message"]
    assert hub.sent_bytes < 20_000
    refused = mp("merge", *words(experts=("nothing",)), "--branch", "merged", code=7)
    assert "no such model" in refused["message"]
    assert hub.sent_bytes < 20_000


def test_a_base_cut_off_in_the_middle_is_gone_on_with(
    mp: Shell, hub: TestHub, sources: dict[str, Path]
) -> None:
    name = "model-00001-of-00002.safetensors"
    mp("plan", *words())
    hub.faults = [Fault("cut", name, 3, after=20_000), Fault("status", name, 100, status=404)]
    refused = mp("merge", *words(), "--branch", "merged", code=7)
    assert "org/base" in refused["message"]
    assert "merged" not in json.dumps(mp("branch"))
    hub.faults.clear()
    hub.sent_bytes = 0
    merged = mp("merge", *words(), "--branch", "merged")
    assert hub.sent_bytes < weight_bytes(sources, "base") + merged["planned_bytes"] - 10_000


def test_a_base_that_is_not_what_the_hub_lists(mp: Shell, hub: TestHub) -> None:
    mp("plan", *words())
    hub.faults = [Fault("corrupt", "model-00002*", 100)]
    refused = mp("merge", *words(), "--branch", "merged", code=4)
    assert "SHA-256" in refused["message"]
    hub.faults.clear()
    mp("merge", *words(), "--branch", "merged")


def test_a_branch_that_moves_meanwhile_is_the_first_commit(
    mp: Shell, hub: TestHub, sources: dict[str, Path]
) -> None:
    first = hub.shelf.commit_of("org/base", "main")

    def move(method: str, path: str) -> None:
        if method == "GET" and path.startswith(f"/org/base/resolve/{first}/"):
            hub.on_request = lambda *_: None
            hub.put("org/base", files_of(sources["one"]))

    hub.on_request = move
    mp("merge", *words(experts=("two",)), "--branch", "merged")
    (base,) = [one for one in mp("remote")["remotes"] if one["branch"] == "hub/org/base"]
    assert base["commit"] == first != hub.shelf.commit_of("org/base", "main")


def test_an_older_commit_is_found_in_the_branchs_history(mp: Shell, hub: TestHub, sources: Any) -> None:
    first = hub.shelf.commit_of("org/base", "main")
    mp("merge", *words(experts=("one",)), "--branch", "before")
    hub.put("org/base", {**files_of(sources["base"]), "config.json": b'{"v": 2}'})
    mp("merge", *words(experts=("one",)), "--branch", "after")
    hub.sent_bytes = 0
    pinned = words(f"hf://org/base@{first}", ("one",))
    mp("merge", *pinned, "--branch", "again", "-m", "the old one")
    assert hub.sent_bytes == 0


def test_offline_what_the_store_has_is_used(mp: Shell, hub: TestHub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mp("merge", *words(), "--branch", "merged")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert mp("merge", *words(), "--branch", "offline")["manifest"] == before["manifest"]
    refused = mp("merge", *words(experts=("three",)), "--branch", "no", code=7)
    assert "HF_HUB_OFFLINE" in refused["message"]
    assert len(hub.requests) == asked
