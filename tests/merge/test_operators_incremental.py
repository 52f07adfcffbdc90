"""A merge made again after one expert changed in one tensor makes that tensor, and no other."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mpstore.api import Repository
from tests.families import safetensors_bytes

EXPERTS = 4
KEYS = [f"model.layers.{i}.w" for i in range(5)]
OPERATORS = {
    "linear": {"weight": 0.4},
    "ties": {"weight": 0.7, "density": 0.5},
    "breadcrumbs_ties": {"weight": 0.7, "density": 0.5},
    "multislerp": {"weight": 0.4},
    "karcher": {},
    "model_stock": {},
    "sce": {},
    "tsv": {},
}


def write(root, name: str, tensors) -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "model.safetensors").write_bytes(safetensors_bytes(tensors))


def moved(rng: np.random.Generator, value: np.ndarray) -> np.ndarray:
    return value + rng.standard_normal(value.shape).astype(np.float32) * np.float32(0.1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repository, and the merges before and after expert e1 changed in one tensor."""
    root = tmp_path_factory.mktemp("incremental")
    repository = Repository.init(root, block_elements=64)
    rng = np.random.default_rng(0)
    base = {key: rng.standard_normal((24, 8)).astype(np.float32) for key in KEYS}
    write(root, "base", base)
    repository.add(root / "base", "base")
    tuned = [{key: moved(rng, value) for key, value in base.items()} for _ in range(EXPERTS)]
    for i, tensors in enumerate(tuned):
        write(root, f"e{i}", tensors)
        repository.add(root / f"e{i}", f"e{i}", base="base")
    for operator, own in OPERATORS.items():
        merge(repository, operator, own)
    tuned[1][KEYS[2]] = moved(rng, base[KEYS[2]])
    write(root, "e1", tuned[1])
    repository.add(root / "e1", "e1", base="base")
    return repository


def merge(repository: Repository, operator: str, own) -> dict:
    experts = [(f"e{i}", own) for i in range(EXPERTS)]
    return repository.merge(operator, base="base", experts=experts, operator=operator).as_json()


def manifest(repository: Repository, branch: str) -> bytes:
    return repository._repo.commit(repository._repo.tip(branch)).manifest


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_only_what_changed_is_made_and_a_memo_never_shows(operator, built):
    before = built._repo.manifest(manifest(built, operator)).tensors
    again = merge(built, operator, OPERATORS[operator])
    after = built._repo.manifest(manifest(built, operator)).tensors
    assert {key for key in KEYS if before[key] != after[key]} == {KEYS[2]}
    assert 0 < again["new_blocks"] <= 3
    assert 0 < again["expert_read_bytes"] < again["full_stored_bytes"] / 2
    found = manifest(built, operator)
    memo = built.mp_dir / "cache" / "memo"
    memo.rename(memo.with_name("aside"))
    merge(built, operator, OPERATORS[operator])
    assert manifest(built, operator) == found
    shutil.rmtree(memo)
    memo.with_name("aside").rename(memo)
