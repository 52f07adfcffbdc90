"""Merges end to end: odd checkpoints, other dtypes, adapters, stacks, races, directories, reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from families import read_safetensors, safetensors_bytes
from merge_material import add, base_tensors, family, forget, merge, plan, tuned, weights

from mpstore import export
from mpstore.errors import ConflictError, NotFoundError, UsageError
from mpstore.merge import engine, recipe
from mpstore.merge.engine import Request
from mpstore.merge.models import Models
from mpstore.merge.replay import replay
from mpstore.records.config import Config
from mpstore.repository import Repo

BF16 = ml_dtypes.bfloat16


class Listening:
    """A progress sink that keeps what it hears."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.advanced = 0
        self.total: int | None = None

    def task(self, label: str, total: int | None, unit: str) -> Listening:
        if label == "reading experts" and unit == "bytes":
            self.total = total
        return self

    def advance(self, amount: int) -> None:
        self.advanced += amount

    def finish(self) -> None:
        return None

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def fresh(tmp_path: Path, block_elements: int = 64) -> Repo:
    return Repo.init(tmp_path / "repo", Config(block_elements=block_elements))


def test_the_document_and_the_commit(tmp_path: Path) -> None:
    repo = family(tmp_path)
    heard: list[tuple[str, Mapping[str, Any]]] = []
    progress = Listening()
    decided = plan(repo, "linear", budget="30%")
    result = engine.merge(
        repo,
        decided,
        "merged",
        message="why",
        author="me",
        progress=progress,
        before=lambda details: heard.append(("before", details)),
        after=lambda details: heard.append(("after", details)),
    )
    assert set(result.as_json()) == {
        "branch", "commit", "manifest", "plan", "operator", "experts", "budget_bytes", "full_raw_bytes",
        "full_stored_bytes", "planned_bytes", "expert_read_bytes", "base_read_bytes", "written_bytes",
        "new_blocks", "reused_blocks", "omitted_blocks", "bound", "bound_kind", "exact", "seconds",
        "received_bytes",
    }  # fmt: skip
    json.dumps(result.as_json())
    assert [event for event, _ in heard] == ["before", "after"]
    assert heard[0][1]["planned_bytes"] == decided.cost_bytes
    assert heard[1][1] == result.as_json()
    assert progress.total == decided.cost_bytes
    assert progress.advanced == result.executed.expert_read_bytes
    commit = repo.commit(result.commit)
    assert repo.tip("merged") == result.commit
    assert [(parent.role, parent.commit) for parent in commit.parents] == [
        ("base", repo.tip("base")),
        *(("expert", repo.tip(f"e{number}")) for number in range(3)),
    ]
    assert (commit.message, commit.author, commit.how["verb"]) == ("why", "me", "merge")
    assert repo.plan(bytes.fromhex(commit.how["plan"])) == decided
    coverage = repo.coverage(bytes.fromhex(commit.how["coverage"]))
    assert coverage.touched == tuple(expert.selection for expert in decided.experts)


def test_a_hook_that_refuses_stops_the_merge_before_any_expert_is_read(tmp_path: Path) -> None:
    repo = family(tmp_path)

    def refuse(details: Mapping[str, Any]) -> None:
        raise UsageError(f"no {details['operator']} today")

    before = repo.objects.meter.read_bytes("expert")
    with pytest.raises(UsageError, match="no ties today"):
        engine.merge(repo, plan(repo), "merged", before=refuse)
    assert repo.objects.meter.read_bytes("expert") == before
    assert repo.tip("merged") is None


def test_a_branch_that_moves_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    repo = family(tmp_path)

    def move(_: Mapping[str, Any]) -> None:
        repo.refs.move("heads/merged", None, repo.tip("base"), "meanwhile", "other")

    with pytest.raises(ConflictError):
        engine.merge(repo, plan(repo), "merged", before=move)
    assert repo.tip("merged") == repo.tip("base")
    assert merge(repo, plan(repo)).executed.expert_read_bytes == 0  # what was made is found again


def test_the_checked_out_merge_is_a_checkpoint_as_its_base(tmp_path: Path) -> None:
    repo = family(tmp_path)
    result = merge(repo, plan(repo, "ties"))
    export.checkout(repo, result.commit, tmp_path / "out")
    base = (tmp_path / "models" / "base" / "model.safetensors").read_bytes()
    out = (tmp_path / "out" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(base[:8], "little")
    assert out[:header] == base[:header]
    assert len(out) == len(base)
    assert out != base
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md"}


def test_integers_are_copied_and_odd_shapes_merge(tmp_path: Path) -> None:
    repo = fresh(tmp_path)
    rng = np.random.default_rng(0)
    base: dict[str, np.ndarray] = {
        "scalar": np.array(2.0, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "prime": rng.standard_normal(1009).astype(np.float32),
        "steps": np.arange(100, dtype=np.int64),
        "mask": np.array([True, False, True]),
        "wide": rng.standard_normal((5, 7, 3)).astype(np.float64),
    }
    expert = {key: array + 1 if array.dtype.kind == "f" else array for key, array in base.items()}
    add(repo, tmp_path, "base", base)
    add(repo, tmp_path, "e0", {key: expert[key].astype(base[key].dtype) for key in base}, "base")
    for operator in ("linear", "ties", "slerp"):
        own = {} if operator == "slerp" else None
        params = {"t": 0.5} if operator == "slerp" else None
        decided = plan(repo, operator, ("e0",), own=own, params=params)
        result = merge(repo, decided, f"m-{operator}")
        for key in ("steps", "mask", "empty"):
            assert result.executed.manifest.tensors[key] == repo.manifest(decided.base_manifest).tensors[key]
        for key in ("scalar", "prime", "wide"):
            got = repo.read_tensor(result.executed.manifest, key)
            assert got.shape == base[key].shape
            if operator == "linear":
                assert np.allclose(got, base[key] + 1, atol=1e-5)


def test_nan_and_infinities_are_reported_and_stay_where_they_are(tmp_path: Path) -> None:
    repo = fresh(tmp_path)
    base = {"w": np.linspace(-1, 1, 300).astype(BF16), "v": np.ones(70, BF16)}
    odd = {key: array.copy() for key, array in base.items()}
    base["w"][10] = np.nan
    base["w"][11] = np.inf
    odd["w"] = (base["w"].astype(np.float32) * 1.5).astype(BF16)
    odd["w"][12] = np.nan
    add(repo, tmp_path, "base", base)
    add(repo, tmp_path, "e0", odd, "base")
    progress = Listening()
    result = merge(repo, plan(repo, "linear", ("e0",)), progress=progress)
    assert any("'w'" in line and "1 in e0" in line and "2 in base" in line for line in progress.warnings)
    assert not any("'v'" in line for line in progress.warnings)
    got = repo.read_tensor(result.executed.manifest, "w")
    assert np.isnan(got[10].astype(np.float32))
    assert got[11] == np.inf
    assert np.isfinite(np.delete(got.astype(np.float32), [10, 11, 12])).all()


def test_tensors_that_an_expert_lacks_are_the_bases(tmp_path: Path) -> None:
    repo = fresh(tmp_path)
    base = base_tensors()
    moved = tuned(base, 1)
    del moved["model.norm.weight"]
    moved["model.extra.weight"] = np.ones(5, BF16)
    add(repo, tmp_path, "base", base)
    add(repo, tmp_path, "e0", moved, "base")
    result = merge(repo, plan(repo, "linear", ("e0",)))
    assert set(result.executed.manifest.tensors) == set(base)
    assert weights(repo, result)["model.norm.weight"] == base["model.norm.weight"].tobytes()


@pytest.mark.parametrize("out_dtype", ["F32", "F16"])
def test_another_output_dtype(tmp_path: Path, out_dtype: str) -> None:
    repo = family(tmp_path)
    same = merge(repo, plan(repo, "linear"), "same").executed.manifest
    decided = plan(repo, "linear", out_dtype=out_dtype)
    result = merge(repo, decided, "other")
    kind = {"F32": np.float32, "F16": np.float16}[out_dtype]
    export.checkout(repo, result.commit, tmp_path / "out")
    found = read_safetensors(tmp_path / "out" / "model.safetensors")
    for key, array in found.items():
        assert array.dtype == kind
        near = repo.read_tensor(same, key).astype(np.float32)
        assert np.allclose(array.astype(np.float32), near, atol=2e-3)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == {"F32": "float32", "F16": "float16"}[out_dtype]
    assert replay(repo, result.commit).same


def lora(rng: np.random.Generator, rank: int = 4) -> dict[str, np.ndarray]:
    """An adapter for both mlp tensors of the family, (64, 50) each."""
    found = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.mlp"
        found[f"{name}.lora_A.weight"] = (rng.standard_normal((rank, 50)) * 0.05).astype(np.float32)
        found[f"{name}.lora_B.weight"] = (rng.standard_normal((64, rank)) * 0.05).astype(np.float32)
    return found


@pytest.mark.parametrize("operator", ["linear", "ties", "model_stock"])
def test_adapters_merge_as_the_full_weights_they_stand_for(tmp_path: Path, operator: str) -> None:
    repo = fresh(tmp_path)
    base = base_tensors(np.float32)
    add(repo, tmp_path, "base", base)
    tensors = lora(np.random.default_rng(5))
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 8, "r": 4}))
    from mpstore import ingest

    ingest.add(repo, directory, "lora", base=repo.tip("base"))
    assert repo.commit(repo.tip("lora")).kind == "lora"
    full = dict(base)
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.mlp"
        delta = 2.0 * (tensors[f"{name}.lora_B.weight"].astype(np.float64) @ tensors[f"{name}.lora_A.weight"])
        key = f"model.layers.{layer}.mlp.weight"
        full[key] = (base[key] + delta).astype(np.float32)
    add(repo, tmp_path, "full", full, "base")
    add(repo, tmp_path, "e0", tuned(base, 1), "base")
    own = {} if operator == "model_stock" else None
    decided = plan(repo, operator, ("lora", "e0"), own=own)
    before = repo.objects.meter.read_bytes("expert")
    adapted = merge(repo, decided, "adapted")
    assert repo.objects.meter.read_bytes("expert") - before == decided.cost_bytes
    plain = merge(repo, plan(repo, operator, ("full", "e0"), own=own), "plain")
    for key in base:
        found = [repo.read_tensor(one.executed.manifest, key) for one in (adapted, plain)]
        close = np.isclose(found[0], found[1], atol=1e-6)
        assert close.mean() > (0.99 if operator == "ties" else 0.9999)  # a threshold may fall between
    assert merge(repo, decided, "adapted").executed.expert_read_bytes == 0
    forget(repo)
    assert replay(repo, adapted.commit).same


def test_a_directory_as_a_model(tmp_path: Path) -> None:
    repo = family(tmp_path)
    expected = weights(repo, merge(repo, plan(repo, "ties")))
    said = recipe.from_flags(
        "base",
        [(name, {"weight": 0.5, "density": 0.4}) for name in ("e0", "models/e1", "e2")],
        "ties",
    )
    apart = Repo.init(tmp_path / "apart", Config(block_elements=64))
    for name in ("base", "e0", "e2"):
        from mpstore import ingest

        ingest.add(
            apart, tmp_path / "models" / name, name, base=None if name == "base" else apart.tip("base")
        )
    with Models(apart, directory=tmp_path) as models:
        decided = engine.prepare(apart, Request(said), models).plan
        result = merge(apart, decided)
    assert weights(apart, result) == expected
    assert set(apart.refs.names("heads/")) == {f"heads/{name}" for name in ("base", "e0", "e2", "merged")}
    with Models(apart) as models, pytest.raises(NotFoundError):
        models.find("nowhere")
    with Models(apart) as models, pytest.raises(UsageError, match="no such kind"):
        models.find("s3://bucket/model")


def test_a_plan_whose_inputs_are_gone_is_refused(tmp_path: Path) -> None:
    repo = family(tmp_path)
    decided = plan(repo, "linear")
    other = Repo.init(tmp_path / "other", Config(block_elements=64))
    with pytest.raises(NotFoundError, match="no longer in the store"):
        merge(other, decided)


STACK = """
merge_method: passthrough
slices:
  - sources: [{model: base, layer_range: [0, 2]}]
  - sources: [{model: e0, layer_range: [1, 2]}]
  - sources: [{model: e1, layer_range: [0, 1], parameters: {scale: 0.5}}]
"""


def test_a_stack_of_layers(tmp_path: Path) -> None:
    repo = fresh(tmp_path)
    base = base_tensors()
    models = {"base": base, "e0": tuned(base, 1), "e1": tuned(base, 2)}
    for name, tensors in models.items():
        said = {
            "num_hidden_layers": 2,
            "torch_dtype": "bfloat16",
            "layer_types": [f"{name} first", f"{name} second"],
            "no_rope_layers": [0, 1],
            "mlp_only_layers": [0, 3],
            "block_sizes": [1, 2, 3],
            "architectures": ["A", "B"],
        }
        files = {"config.json": json.dumps(said)}
        add(repo, tmp_path / "models", name, tensors, None if name == "base" else "base", files=files)
    with Models(repo) as known:
        decided = engine.prepare(repo, Request(recipe.from_yaml(STACK)), known).plan
    before = repo.objects.meter.read_bytes("expert")
    result = merge(repo, decided)
    assert repo.objects.meter.read_bytes("expert") - before <= decided.cost_bytes
    export.checkout(repo, result.commit, tmp_path / "out")
    found = read_safetensors(tmp_path / "out" / "model.safetensors")
    name = "model.layers.{}.mlp.weight"
    sources = [("base", 0, 1.0), ("base", 1, 1.0), ("e0", 1, 1.0), ("e1", 0, 0.5)]
    for layer, (model, source, scale) in enumerate(sources):
        expected = (models[model][name.format(source)].astype(np.float32) * scale).astype(BF16)
        assert found[name.format(layer)].tobytes() == expected.tobytes()
    assert name.format(4) not in found
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {
        "num_hidden_layers": 4,
        "torch_dtype": "bfloat16",
        "layer_types": ["base first", "base second", "e0 second", "e1 first"],
        "no_rope_layers": [0, 1, 1, 0],
        "mlp_only_layers": [0, 3],  # numbers of layers
        "block_sizes": [1, 2, 3],  # another length
        "architectures": ["A", "B"],  # of no layers
    }
    assert replay(repo, result.commit).same
