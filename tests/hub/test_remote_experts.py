"""Merging with experts that were never downloaded: only what the plan selected crosses the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import Inline
from families import (
    HIDDEN,
    LAYERS,
    base_tensors,
    read_checkpoint,
    safetensors_bytes,
)

from hub.conftest import Shell, files_of, written
from hub.server import Fault, TestHub
from mpstore.api import Repository
from mpstore.errors import NotFoundError
from mpstore.records.model import FileEntry, Manifest
from mpstore.remotes.stored_file import StoredFile
from mpstore.repository import Repo

EXPERTS = ("one", "two", "three", "four")


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return written(tmp_path / "src", EXPERTS)


@pytest.fixture
def mp(tmp_path: Path, hub: TestHub, sources: dict[str, Path]) -> Shell:
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
    assert refused["hint"] == "mp pull hub/org/one brings what lacks"
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


def test_a_pull_finds_out_that_a_merge_was_sent_other_bytes(
    hub: TestHub, mp: Shell, sources: dict[str, Path], tmp_path: Path
) -> None:
    """A part of a file has no SHA-256; the pull that completes it has, and then trusts none of the parts."""
    mp("plan", *words())
    hub.faults = [Fault("corrupt", "model-00001*", 1)]
    mp("merge", *words(), "--branch", "merged")
    refused = mp("pull", "hf://org/one", "--branch", "one", code=4)
    assert "SHA-256" in refused["message"]
    assert "pull again" in refused["hint"]
    mp("pull", "hf://org/one", "--branch", "one")
    mp("checkout", "one", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(sources["one"])


def test_a_diff_names_what_it_could_not_compare(mp: Shell, tmp_path: Path) -> None:
    mp("merge", *words(), "--budget", "20%", "--branch", "merged")
    found = mp("diff", "base", "hub/org/one")
    lacking = set(found["lacking_tensors"])
    assert lacking
    assert lacking | {one["tensor"] for one in found["tensors"]} == set(base_tensors())
    said = Inline(tmp_path / "work")("diff", "base", "hub/org/one").out
    assert f"{len(lacking)} tensors not compared" in said
    assert min(lacking) in said
    assert "mp pull" in said
    assert "not compared" not in Inline(tmp_path / "work")("diff", "base", "merged").out


def test_the_hint_for_what_was_never_fetched_helps(
    mp: Shell, sources: dict[str, Path], tmp_path: Path
) -> None:
    mp("merge", *words(), "--budget", "20%", "--branch", "merged")
    lacking = mp("show", "hub/org/one")["lacking_tensors"]
    refused = mp("checkout", "hub/org/one", tmp_path / "out", code=3)
    assert refused["message"].endswith("never fetched")
    assert "mp pull hub/org/one brings" in Inline(tmp_path / "work")("show", "hub/org/one").out
    mp("tag", "old", "hub/org/one")
    mp(*refused["hint"].partition(" brings")[0].split()[1:])
    mp("checkout", "hub/org/one", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(sources["one"])
    refused = mp("checkout", "old", tmp_path / "old", code=3)
    assert "hub/ORG/NAME" in refused["hint"], "no branch is there any more"
    with pytest.raises(NotFoundError) as caught:
        StoredFile(*_lacking_one(Repository.open(tmp_path / "work"), "old"))
    assert " 0 other" not in caught.value.message
    assert lacking > 1


def _lacking_one(repository: Repository, revision: str) -> tuple[Repo, Manifest, FileEntry]:
    """A file of the revision, of which just one tensor lacks."""
    repo = repository._repo
    manifest = repo.manifest(repository.show(revision).info.commit.manifest)
    here = next(record for record in manifest.tensors.values() if record)
    key = next(key for key, record in manifest.tensors.items() if not record)
    entry = next(file for file in manifest.files if key in file.tensors)
    tensors = {one: b"" if one == key else record or here for one, record in manifest.tensors.items()}
    return repo, Manifest(manifest.files, tensors), entry


def test_a_directory_stands_against_what_was_partly_fetched_by_its_sha256(
    mp: Shell, sources: dict[str, Path]
) -> None:
    mp("merge", *words(), "--budget", "20%", "--branch", "merged")
    assert mp("show", "hub/org/one")["lacking_tensors"]
    weights = sorted(path.name for path in sources["one"].glob("*.safetensors"))
    found = {one["path"]: one for one in mp("status", sources["one"], "hub/org/one")["files"]}
    assert [found[name]["state"] for name in weights] == ["equal"] * len(weights)
    other = {one["path"]: one["state"] for one in mp("status", sources["two"], "hub/org/one")["files"]}
    assert {other[name] for name in weights} == {"changed"}
    changed = sources["one"] / weights[0]
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x7f")
    found = {one["path"]: one for one in mp("status", sources["one"], "hub/org/one")["files"]}
    assert [found[name]["state"] for name in weights] == ["changed"] + ["equal"] * (len(weights) - 1)


RANK = 4


@pytest.fixture
def adapter(tmp_path: Path, hub: TestHub) -> Path:
    """A LoRA adapter of the attention's queries and one norm in full, on the Hub as org/adapter."""
    rng = np.random.default_rng(5)
    tensors = {"base_model.model.model.norm.weight": np.full(HIDDEN, 1.5, np.float32)}
    for layer in range(LAYERS):
        for which in ("q", "v"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{which}_proj"
            size = 0.1 if which == "q" else 1e-4
            tensors[f"{name}.lora_A.weight"] = rng.standard_normal((RANK, HIDDEN)).astype(np.float32) * size
            tensors[f"{name}.lora_B.weight"] = rng.standard_normal((HIDDEN, RANK)).astype(np.float32) * 0.1
    directory = tmp_path / "src/adapter"
    directory.mkdir(parents=True)
    (directory / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "modules_to_save": ["norm"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps({"unused": "x" * 5000}))
    hub.put("org/adapter", files_of(directory))
    return directory


def adapted(name: str) -> list[str]:
    experts = ["--expert", f"{name}:weight=0.5", "--expert", "hf://org/one:weight=0.25"]
    return ["--base", "base", "--op", "task_arithmetic", *experts]


def test_an_adapter_of_the_hub_merges_as_one_that_was_pulled(
    hub: TestHub, mp: Shell, adapter: Path, tmp_path: Path
) -> None:
    planned = mp("plan", *adapted("hf://org/adapter"))
    weights = (adapter / "adapter_model.safetensors").stat().st_size
    own, other = planned["experts"]
    assert own["kind"] == "lora"
    assert 0.8 * weights < own["planned_bytes"] < weights
    hub.sent_bytes = 0
    mp("merge", *adapted("hf://org/adapter"), "--branch", "remote")
    assert hub.sent_bytes == own["planned_bytes"] + other["planned_bytes"], "headers came with the plan"
    mp("pull", "hf://org/adapter", "--branch", "here")
    mp("merge", *adapted("here"), "--branch", "local")
    mp("checkout", "remote", tmp_path / "a")
    mp("checkout", "local", tmp_path / "b")
    first, second = read_checkpoint(tmp_path / "a"), read_checkpoint(tmp_path / "b")
    assert {key: array.tobytes() for key, array in first.items()} == {
        key: array.tobytes() for key, array in second.items()
    }
    moved = {key for key, array in first.items() if array.tobytes() != base_tensors()[key].tobytes()}
    assert "model.norm.weight" in moved
    assert mp("replay", "remote")["same"]
    assert mp("fsck", "--read-data")


@pytest.mark.usefixtures("adapter")
def test_a_budget_takes_the_adapter_tensor_by_tensor(hub: TestHub, mp: Shell) -> None:
    words = ["--base", "base", "--op", "task_arithmetic", "--expert", "hf://org/adapter:weight=1"]
    planned = mp("plan", *words)
    assert "not in the store" in json.dumps(planned["fallbacks"])
    half = planned["planned_bytes"] // 2
    headers = hub.sent_bytes
    hub.sent_bytes = 0
    merged = mp("merge", *words, "--budget", half, "--branch", "half")
    assert 0 < merged["planned_bytes"] <= half
    assert merged["expert_read_bytes"] <= half
    assert hub.sent_bytes <= merged["planned_bytes"] + headers
    assert 0 < len(mp("ls", "hub/org/adapter")["tensors"]) < 2 * 2 * LAYERS + 1
    hub.sent_bytes = 0
    mp("merge", *words, "--branch", "whole", "-m", "the rest")
    assert hub.sent_bytes < planned["planned_bytes"] - merged["planned_bytes"] + headers
    assert mp("pull", "hf://org/adapter", "--branch", "here")["resumed_bytes"] == planned["planned_bytes"]


@pytest.mark.usefixtures("adapter")
def test_an_adapter_that_was_partly_fetched_needs_the_rest_by_name(hub: TestHub, mp: Shell) -> None:
    mp("plan", *adapted("hf://org/adapter"))
    hub.faults = [Fault("status", "*", 1000, status=403)]
    refused = mp("plan", *adapted("hub/org/adapter"), code=3)
    assert "lora_" in refused["message"] or "norm" in refused["message"]
    assert "mp pull" in refused["hint"]


@pytest.mark.usefixtures("adapter")
def test_an_adapters_configuration_is_what_the_hub_lists(hub: TestHub, mp: Shell) -> None:
    hub.faults = [Fault("corrupt", "adapter_config.json")]
    refused = mp("plan", *adapted("hf://org/adapter"), code=4)
    assert "adapter_config.json" in refused["message"]
    mp("plan", *adapted("hf://org/adapter"))
