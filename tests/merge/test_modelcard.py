"""The model card: what the Hub reads, what a person reads, and nothing that is not the plan's."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from mpstore.api import Repository
from mpstore.merge import modelcard, recipe
from mpstore.records.model import Commit
from tests.families import safetensors_bytes

ODD = "odd|name`with_markup*"


def build(root, block_elements: int = 64) -> Repository:
    repository = Repository.init(root, block_elements=block_elements)
    rng = np.random.default_rng(0)
    base = {"w": rng.standard_normal((40, 16)).astype(np.float32)}
    for name in ("base", "math", ODD):
        (root / name).mkdir()
        tensors = (
            base if name == "base" else {"w": base["w"] + rng.standard_normal((40, 16)).astype(np.float32)}
        )
        (root / name / "model.safetensors").write_bytes(safetensors_bytes(tensors))
        (root / name / "config.json").write_text("{}")
        (root / name / "README.md").write_text("of the base")
    repository.add(root / "base", "base")
    repository.add(root / "math", "math", base="base")
    return repository


def card_of(repository: Repository, root, branch: str = "merged", **words) -> str:
    repository.merge(branch, base="base", directory=root, **words)
    repository.checkout(branch, root / f"out-{branch}")
    return (root / f"out-{branch}" / "README.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("card")
    return build(root), root


def front_of(card: str):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter_is_what_the_hub_reads(built):
    card = card_of(*built, "front", experts=["math:weight=1"], operator="ties")
    assert front_of(card) == {
        "base_model": ["base", "math"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "tags": ["merge", "mpstore", "ties"],
    }


def test_the_recipe_in_the_card_makes_the_same_merge_again(built):
    repository, root = built
    card = card_of(
        repository, root, "first", experts=["math:weight=0.5,density=0.3"], operator="ties", seed=5
    )
    text = card.split("```yaml\n")[1].split("\n```")[0] + "\n"
    assert recipe.from_yaml(text).text == text
    repository.merge("again", recipe=text, seed=5)
    one, two = (repository._repo.commit(repository._repo.tip(name)).manifest for name in ("first", "again"))
    assert one == two


def test_an_exact_merge_has_the_same_card_in_blocks_of_any_size(tmp_path):
    cards = []
    for block_elements in (64, 128):
        root = tmp_path / str(block_elements)
        root.mkdir()
        words = {"experts": ["math:weight=1,density=0.3"], "operator": "ties"}
        cards.append(card_of(build(root, block_elements), root, **words))
    assert cards[0] == cards[1]
    assert "the merge is exact" in cards[0]


def test_a_budget_shows_what_it_left_out(built):
    card = card_of(*built, "thrifty", experts=["math:weight=1"], operator="task_arithmetic", budget="40%")
    assert "blocks left out" in card
    assert "at most" in card
    card = card_of(*built, "sparse", experts=["math:weight=1,density=.3"], operator="ties", budget="40%")
    assert "about" in card


def test_names_are_not_markup(built):
    repository, root = built
    name = f"./{ODD}"
    card = card_of(repository, root, "odd", experts=[(name, {"weight": 1.0})], operator="ties")
    assert front_of(card)["base_model"] == ["base", name]
    rows = [line for line in card.splitlines() if line.startswith("| expert |")]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 5
    assert "`````" not in card
    assert f"- model: {name}" in card


def test_a_pulled_model_has_its_name_on_the_hub():
    commit = Commit(b"", (), "full", "", 0, "", {"verb": "pull", "origin": {"repo": "org/name"}})
    assert modelcard._hub_name("local", commit) == "org/name"
    assert modelcard._hub_name("hf://org/x", Commit(b"", (), "full", "", 0, "", {"verb": "add"})) == "org/x"
