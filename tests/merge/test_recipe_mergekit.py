"""The same recipes through `mp merge` and through mergekit 0.1.5: gradients, filters, slices, stacks, dtypes.

Skipped where no Python with mergekit is at hand: MERGEKIT_PYTHON, or /opt/mergekit-venv.
"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest

from mpstore.api import Repository
from tests.families import read_safetensors, safetensors_bytes

PYTHON = Path(os.environ.get("MERGEKIT_PYTHON", "/opt/mergekit-venv/bin/python"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"mergekit is not installed for {PYTHON}"),
]
HIDDEN, VOCABULARY, INNER, LAYERS = 24, 97, 40, 5

RECIPES = {
    "linear": """
        merge_method: linear
        models:
        - {model: e0, parameters: {weight: 0.3}}
        - {model: e1, parameters: {weight: [0.1, 0.9]}}
        - {model: e2, parameters: {weight: [{filter: mlp, value: 0.5}, {value: [0.2, 0.4, 0.1]}]}}
        """,
    "linear_with_listed_base": """
        merge_method: linear
        base_model: base
        models: [{model: base, parameters: {weight: 0.3}}, {model: e1, parameters: {weight: 0.4}}]
        """,
    "linear_with_unlisted_base": """
        merge_method: linear
        base_model: base
        models: [{model: e0}, {model: e1, parameters: {weight: 0.4}}]
        parameters: {weight: 0.3}
        """,
    "ties": """
        merge_method: ties
        base_model: base
        models:
        - {model: base}
        - {model: e0, parameters: {weight: 1, density: [1, 0.7, 0.1]}}
        - {model: e1, parameters: {weight: [{filter: mlp, value: 0.5}, {value: 0.1}], density: 0.33}}
        parameters: {normalize: true, int8_mask: true, lambda: 0.8}
        """,
    "task_arithmetic": """
        merge_method: task_arithmetic
        base_model: base
        models:
        - {model: e0, parameters: {weight: [0, 0.5, 0.3, 0.7, 1]}}
        - {model: e1, parameters: {weight: -0.25}}
        out_dtype: bfloat16
        """,
    "breadcrumbs_ties": """
        merge_method: breadcrumbs_ties
        base_model: base
        models:
        - {model: e0, parameters: {weight: 0.6, density: 0.5, gamma: 0.03}}
        - {model: e1, parameters: {weight: 0.5, density: 0.9}}
        """,
    "slerp": """
        merge_method: slerp
        base_model: base
        slices: [{sources: [{model: base, layer_range: [0, 5]}, {model: e1, layer_range: [0, 5]}]}]
        parameters:
          t:
          - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
          - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
          - value: 0.5
        """,
    "slerp_in_two_slices": """
        merge_method: slerp
        base_model: base
        slices:
        - sources: [{model: base, layer_range: [0, 2]}, {model: e1, layer_range: [0, 2]}]
          parameters: {t: [0.1, 0.4]}
        - sources: [{model: base, layer_range: [2, 5]}, {model: e1, layer_range: [2, 5]}]
          parameters: {t: [0.9, 0.4]}
        """,
    "nuslerp": """
        merge_method: nuslerp
        models: [{model: e0, parameters: {weight: 0.3}}, {model: e1, parameters: {weight: 0.7}}]
        """,
    "karcher_with_unlisted_base": """
        merge_method: karcher
        base_model: base
        models: [{model: e0}, {model: e1}]
        """,
    "model_stock": """
        merge_method: model_stock
        base_model: base
        models: [{model: e0}, {model: e1}, {model: e2}]
        """,
    "sce": """
        merge_method: sce
        base_model: base
        models: [{model: e0}, {model: e1}, {model: e2}]
        parameters: {select_topk: 0.4}
        """,
    "passthrough": """
        merge_method: passthrough
        models: [{model: e0, parameters: {scale: 0.5}}]
        """,
    "stack": """
        merge_method: passthrough
        slices:
        - sources: [{model: e0, layer_range: [0, 3]}]
        - sources:
          - model: e1
            layer_range: [1, 5]
            parameters: {scale: [{filter: o_proj, value: 0.5}, {value: 1.0}]}
        """,
}


def _shapes() -> dict[str, tuple[int, ...]]:
    square, up = (HIDDEN, HIDDEN), (INNER, HIDDEN)
    parts = {f"self_attn.{one}_proj": square for one in "qkvo"}
    parts |= {"mlp.gate_proj": up, "mlp.up_proj": up, "mlp.down_proj": up[::-1]}
    parts |= {"input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,)}
    layers = {f"model.layers.{i}.{key}.weight": shape for i in range(LAYERS) for key, shape in parts.items()}
    ends = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    return layers | ends | {"model.norm.weight": (HIDDEN,)}


def _write_family(root: Path) -> None:
    rng = np.random.default_rng(0)
    base = {key: (rng.standard_normal(shape) * 0.05).astype(np.float32) for key, shape in _shapes().items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    for name in ("base", "e0", "e1", "e2"):
        tensors = base
        if name != "base":
            tensors = {
                key: value + (rng.standard_normal(value.shape) * 0.02).astype(np.float32)
                for key, value in base.items()
            }
        (root / name).mkdir()
        (root / name / "model.safetensors").write_bytes(safetensors_bytes(tensors))
        (root / name / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """Directory with theirs/NAME, and a repository that has the models."""
    root = tmp_path_factory.mktemp("mergekit")
    _write_family(root)
    (root / "recipes").mkdir()
    for name, text in RECIPES.items():
        (root / "recipes" / f"{name}.yml").write_text(textwrap.dedent(text))
    script = Path(__file__).parent / "mergekit_recipes.py"
    subprocess.run([str(PYTHON), str(script), str(root)], check=True, capture_output=True)
    repository = Repository.init(root / "repository", block_elements=256)
    for name in ("base", "e0", "e1", "e2"):
        repository.add(root / name, name, base=None if name == "base" else "base")
    return root, repository


def _read(directory: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= read_safetensors(path)
    return found


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_makes_what_it_makes_with_mergekit(name, merged):
    root, repository = merged
    repository.merge(name, recipe=root / "recipes" / f"{name}.yml")
    repository.checkout(name, root / "ours" / name)
    ours, theirs = _read(root / "ours" / name), _read(root / "theirs" / name)
    assert set(ours) == set(theirs)
    for key, mine in ours.items():
        assert mine.dtype == theirs[key].dtype
        np.testing.assert_allclose(
            mine.astype(np.float64), theirs[key].astype(np.float64), rtol=1e-6, atol=1e-7, err_msg=key
        )
        if name in ("ties", "task_arithmetic", "breadcrumbs_ties", "passthrough", "stack"):
            assert mine.tobytes() == theirs[key].tobytes(), key
    layers = json.loads((root / "ours" / name / "config.json").read_text())["num_hidden_layers"]
    assert layers == (7 if name == "stack" else LAYERS)
