"""Every operator through the whole house: directories in, a merge, a directory out, any block size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mpstore.api import Repository
from mpstore.merge.execute.contexts import content_key
from tests.families import read_safetensors, safetensors_bytes

sys.path.insert(0, str(Path(__file__).parent / "operators"))

from dense_reference import REFERENCE
from operator_cases import CASES, Case
from operator_harness import family

SHAPES = {
    "model.embed.weight": (23, 31),
    "model.layers.0.up.weight": (7, 61),
    "model.layers.0.norm.weight": (389,),
    "model.layers.1.up.weight": (3, 5, 11),
    "model.scalar": (),
    "model.empty": (0, 3),
}
SEED = 11


@pytest.fixture(scope="module")
def models():
    drawn = {key: family(shape, 3, seed=i, spread=0.05) for i, (key, shape) in enumerate(SHAPES.items())}
    for base, tuned in drawn.values():  # blocks that no expert touches, and one that only one does
        for model in tuned:
            model.reshape(-1)[64:192] = base.reshape(-1)[64:192]
        tuned[0].reshape(-1)[192:256] = base.reshape(-1)[192:256]
    return [{key: pair[0] for key, pair in drawn.items()}] + [
        {key: pair[1][i] for key, pair in drawn.items()} for i in range(3)
    ]


@pytest.fixture(scope="module")
def repositories(models, tmp_path_factory):
    """The same models in blocks of 64 and of 256 elements."""
    found = []
    for block_elements in (64, 256):
        root = tmp_path_factory.mktemp(f"operators{block_elements}")
        repository = Repository.init(root, block_elements=block_elements)
        for number, tensors in enumerate(models):
            name = "base" if number == 0 else f"e{number - 1}"
            (root / name).mkdir()
            (root / name / "model.safetensors").write_bytes(safetensors_bytes(tensors))
            repository.add(root / name, name, base=None if number == 0 else "base")
        found.append(repository)
    return found


def reference(case: Case, repository: Repository, models, key: str) -> np.ndarray:
    count = len(case.experts)
    wide = [np.float64(model[key]) for model in models]
    experts = []
    for i, own in enumerate(case.experts):
        commit = repository._repo.commit(repository._repo.tip(f"e{i}"))
        experts.append(
            {**own, "key": content_key(repository._repo.manifest(commit.manifest), commit.manifest)}
        )
    params = {**case.params, "seed": SEED, "name": key}
    return REFERENCE[case.operator](wide[0], wide[1 : count + 1], experts, params)


def merged(case: Case, repository: Repository, directory: Path) -> Path:
    """The weights of a merge, checked out."""
    result = repository.merge(
        directory.name,
        base="base",
        experts=[(f"e{i}", own) for i, own in enumerate(case.experts)],
        operator=case.operator,
        parameters=case.params,
        seed=SEED,
    )
    assert result.as_json()["exact"]
    repository.checkout(directory.name, directory)
    return directory / "model.safetensors"


@pytest.mark.parametrize("case", [case for case in CASES if case.experts], ids=str)
def test_invariant_08_a_merge_is_the_formula_in_blocks_of_any_size(case, repositories, models, tmp_path):
    number = CASES.index(case)
    files = [merged(case, one, tmp_path / f"{i}-{number}") for i, one in enumerate(repositories)]
    assert files[0].read_bytes() == files[1].read_bytes()
    found = read_safetensors(files[0])
    assert list(found) == list(SHAPES)
    for key, values in found.items():
        expected = reference(case, repositories[0], models, key)
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-6, err_msg=key)
