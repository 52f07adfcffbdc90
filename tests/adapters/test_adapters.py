"""LoRA adapters: which tensors they change and by how much, in any runs; what is refused, and why."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mpstore import kernels
from mpstore.adapters import AdapterConfig, Product, Target, read_config, targets
from mpstore.errors import DamagedError, IncompatibleError
from mpstore.kernels import adapter_numpy, native

PYTHON = Path(os.environ.get("PEFT_PYTHON", "/opt/mergekit-venv/bin/python"))
ROOT = "base_model.model."
BASE = {
    "model.embed.weight": (13, 8),
    "model.layers.0.q.weight": (8, 8),
    "model.layers.0.up.weight": (20, 8),
    "model.layers.0.up.bias": (20,),
    "model.conv.weight": (5, 3, 3, 3),
    "model.turned.weight": (8, 12),
    "head.weight": (4, 8),
}


def config(**words) -> AdapterConfig:
    return read_config(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6, **words}).encode(), "a")


def pair(module: str, a, b, leaf: str = ".weight", kind: str = "lora_") -> dict:
    return {f"{ROOT}{module}.{kind}A{leaf}": a, f"{ROOT}{module}.{kind}B{leaf}": b}


def delta_of(target: Target, a: np.ndarray, b: np.ndarray, shape, run: int = 7) -> np.ndarray:
    product = Product.of(target, a, b)
    flat = np.full(math.prod(shape), np.nan, np.float32)
    for at in range(0, flat.size, run):
        product.delta(at, min(at + run, flat.size), flat[at : at + run])
    return flat.reshape(shape)


def random(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def test_a_linear_layer():
    found = targets(config(), pair("model.layers.0.up", (2, 8), (20, 2)), BASE, "a")
    (target,) = found.values()
    assert (target.key, target.kind, target.scale) == ("model.layers.0.up.weight", "product", 3.0)
    a, b = random(2, 8), random(20, 2)
    np.testing.assert_allclose(
        delta_of(target, a, b, (20, 8)), 3.0 * (np.float64(b) @ a), rtol=1e-6, atol=1e-6
    )


def test_scales():
    tensors = pair("model.layers.0.q", (4, 8), (8, 4))
    key = "model.layers.0.q.weight"
    assert targets(config(), tensors, BASE, "a")[key].scale == 6 / 4
    assert targets(config(use_rslora=True), tensors, BASE, "a")[key].scale == 6 / 2
    assert targets(config(alpha_pattern={"layers.0.q": 2}), tensors, BASE, "a")[key].scale == 2 / 4
    assert targets(config(alpha_pattern={"^model.layers.0.q": 2}), tensors, BASE, "a")[key].scale == 2 / 4
    assert targets(config(alpha_pattern={"^layers.0.q": 2}), tensors, BASE, "a")[key].scale == 6 / 4
    assert targets(config(alpha_pattern={".*[13]\\.q": 2}), tensors, BASE, "a")[key].scale == 6 / 4
    assert targets(config(alpha_pattern={"ayers.0.q": 2}), tensors, BASE, "a")[key].scale == 6 / 4


def test_transposed_convolutional_and_embedding_layers():
    tensors = {
        **pair("model.turned", (2, 8), (12, 2)),
        **pair("model.conv", (2, 3, 3, 3), (5, 2, 1, 1)),
        **pair("model.embed", (2, 13), (8, 2), "", "lora_embedding_"),
    }
    found = targets(config(fan_in_fan_out=True), tensors, BASE, "a")
    a, b = random(2, 8), random(12, 2)
    turned = delta_of(found["model.turned.weight"], a, b, (8, 12))
    np.testing.assert_allclose(turned, 3 * (np.float64(b) @ a).T, rtol=1e-6, atol=1e-6)
    a, b = random(2, 3, 3, 3), random(5, 2, 1, 1)
    conv = delta_of(found["model.conv.weight"], a, b, (5, 3, 3, 3))
    expected = 3 * np.einsum("ok,kihw->oihw", np.float64(b[:, :, 0, 0]), a)
    np.testing.assert_allclose(conv, expected, rtol=1e-6, atol=1e-6)
    a, b = random(2, 13), random(8, 2)
    embed = delta_of(found["model.embed.weight"], a, b, (13, 8))
    np.testing.assert_allclose(embed, 3 * (np.float64(b) @ a).T, rtol=1e-6, atol=1e-6)


def test_a_square_layer_is_turned_only_when_the_configuration_says_so():
    tensors = pair("model.layers.0.q", (2, 8), (8, 2))
    assert not targets(config(), tensors, BASE, "a")["model.layers.0.q.weight"].transposed
    assert targets(config(fan_in_fan_out=True), tensors, BASE, "a")["model.layers.0.q.weight"].transposed


def test_whole_tensors():
    tensors = {
        f"{ROOT}head.weight": (4, 8),
        f"{ROOT}model.layers.0.up.base_layer.bias": (20,),
        f"{ROOT}model.embed.modules_to_save.default.weight": (13, 8),
    }
    found = targets(config(), tensors, BASE, "a")
    assert {key: one.kind for key, one in found.items()} == dict.fromkeys(
        ("head.weight", "model.layers.0.up.bias", "model.embed.weight"), "whole"
    )
    assert found["head.weight"].sources == (f"{ROOT}head.weight",)


def test_a_frozen_layer_saved_under_its_pair_is_not_a_change():
    tensors = pair("model.embed", (2, 13), (8, 2), "", "lora_embedding_")
    tensors[f"{ROOT}model.embed.base_layer.weight"] = (13, 8)
    assert targets(config(), tensors, BASE, "a")["model.embed.weight"].kind == "product"


def test_names_with_a_prefix_less_or_more():
    bare = {key.removeprefix("model."): shape for key, shape in BASE.items()}
    found = targets(config(), pair("model.layers.0.q", (2, 8), (8, 2)), bare, "a")
    assert list(found) == ["layers.0.q.weight"]
    found = targets(config(), pair("layers.0.q", (2, 8), (8, 2)), BASE, "a")
    assert list(found) == ["model.layers.0.q.weight"]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (pair("model.layers.7.q", (2, 8), (8, 2)), "does not have"),
        (pair("model.layers.0.q", (2, 9), (8, 2)), "do not fit"),
        (pair("model.layers.0.q", (2, 8), (8, 3)), "do not fit"),
        (pair("model.layers.0.q", (0, 8), (8, 0)), "do not fit"),
        (pair("model.layers.0.q", (8,), (8,)), "do not fit"),
        ({f"{ROOT}model.layers.0.q.lora_A.weight": (2, 8)}, "one half"),
        ({f"{ROOT}model.layers.0.q.lora_magnitude_vector": (8,)}, "plain LoRA"),
        ({f"{ROOT}model.layers.0.q.lora_B.bias": (8,)}, "plain LoRA"),
        ({f"{ROOT}head.weight": (5, 8)}, "(5, 8)"),
    ],
)
def test_what_does_not_fit_is_named(tensors, words):
    with pytest.raises(IncompatibleError) as caught:
        targets(config(), tensors, BASE, "a")
    assert words in caught.value.message


@pytest.mark.parametrize(
    "words",
    [
        {"peft_type": "LOHA"},
        {"use_dora": True},
        {"lora_bias": True},
        {"target_parameters": ["x"]},
        {"layer_replication": [[0, 2]]},
        {"init_lora_weights": "pissa_niter_4"},
        {"alpha_pattern": {"(a+)+": 1}},
        {"alpha_pattern": {"[": 1}},
        {"alpha_pattern": {"a" * 400: 1}},
        {"alpha_pattern": {r"\1a": 1}},
    ],
)
def test_what_is_no_plain_lora_is_refused(words):
    with pytest.raises(IncompatibleError):
        config(**words)


@pytest.mark.parametrize("pattern", [".*a" * 60 + "x", "a?" * 30 + "a" * 30, "(a|a)" * 30])
def test_a_pattern_that_could_take_forever_is_refused_before_it_is_tried(pattern):
    with pytest.raises(IncompatibleError, match="could take forever"):
        config(alpha_pattern={pattern: 1}).scale("layers." + "a" * 30 + ".b", 8)


def test_patterns_as_people_write_them_are_tried():
    layers = "|".join(str(layer) for layer in range(32))
    found = config(alpha_pattern={rf"model\.layers\.({layers})\..*(q|v)_proj": 16, r"h\.\d+\..*": 4})
    assert found.scale("model.layers.31.self_attn.v_proj", 8) == 2
    assert found.scale("base.h.11.mlp", 8) == 0.5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 200_000,
        b" " * (1 << 21),
        b'{"peft_type": "LORA", "lora_alpha": "x"}',
        b'{"peft_type": "LORA", "lora_alpha": NaN}',
        b'{"peft_type": "LORA", "lora_alpha": 1' + b"0" * 400 + b"}",
        b'{"peft_type": "LORA", "alpha_pattern": {"x": 1' + b"0" * 400 + b"}}",
        b'{"peft_type": "LORA", "alpha_pattern": []}',
        b'{"peft_type": "LORA", "alpha_pattern": [1]}',
        b'{"peft_type": "LORA", "alpha_pattern": {"x": true}}',
    ],
)
def test_invariant_11_configurations_from_outside(data):
    if data == b'{"peft_type": "LORA", "alpha_pattern": []}':
        assert read_config(data, "a").alpha_pattern == {}
        return
    with pytest.raises(DamagedError):
        read_config(data, "a")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_runs_do_not_show_and_kernels_agree(data):
    rows, columns, rank = (data.draw(st.integers(1, limit)) for limit in (9, 40, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    left = rng.standard_normal((rows, rank)).astype(np.float32)
    right = rng.standard_normal((rank, columns)).astype(np.float32)
    if data.draw(st.booleans()):
        left.flat[0], right.flat[-1] = np.inf, np.nan
    size = rows * columns
    whole = np.empty(size, np.float32)
    bad = adapter_numpy.product_run(left, right, 0.37, 0, whole)
    assert bad == size - np.isfinite(whole).sum()
    run = data.draw(st.integers(1, size))
    for mode in kernels.modes():
        kernels.select(mode)
        module = kernels.pick("adapter")
        pieces, count = np.empty(size, np.float32), 0
        for at in range(0, size, run):
            count += module.product_run(left, right, 0.37, at, pieces[at : at + run])
        assert count == bad
        nan = np.isnan(whole)
        assert (nan == np.isnan(pieces)).all()
        assert pieces[~nan].tobytes() == whole[~nan].tobytes()


@pytest.mark.parametrize(("rows", "rank", "columns"), [(3, 4, 5000), (13, 6, 700)])
def test_long_rows_are_cut_into_pieces_that_do_not_show(rows, rank, columns):
    left, right = random(rows, rank), random(rank, columns)
    outs = {mode: np.empty(8000, np.float32) for mode in kernels.modes()}
    for mode, out in outs.items():
        kernels.select(mode)
        kernels.pick("adapter").product_run(left, right, 2.0, 321, out)
    assert len({out.tobytes() for out in outs.values()}) == 1
    np.testing.assert_allclose(outs["numpy"], 2 * (left @ right).ravel()[321:8321], rtol=1e-5, atol=1e-5)


def test_a_run_outside_the_tensor_is_refused():
    product = Product(random(2, 1), random(1, 3), 1.0)
    for start, stop in ((0, 7), (-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="of a 2 by 3 product"):
            product.delta(start, stop, np.empty(max(stop - start, 0), np.float32))
    for library in native.variants().values():
        for left, start, items in ((product.left, 1, 6), (product.left, -1, 1), (product.left[1:], 0, 6)):
            with pytest.raises(ValueError, match="a run inside of the product"):
                library.product_run(left, product.right, 1, 3, 1.0, start, np.empty(items, np.float32))
        with pytest.raises(ValueError, match="a row for each of the rank"):
            library.product_run(product.left, product.right, 2, 3, 1.0, 0, np.empty(1, np.float32))


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason=f"PEFT is not installed for {PYTHON}")
def test_deltas_are_what_peft_merges(tmp_path):
    subprocess.run([str(PYTHON), str(Path(__file__).parent / "peft_side.py"), str(tmp_path)], check=True)
    cases = sorted(tmp_path.iterdir())
    assert len(cases) == 6
    for case in cases:
        base, merged = (dict(np.load(case / f"{name}.npz")) for name in ("base", "merged"))
        said = read_config((case / "adapter" / "adapter_config.json").read_bytes(), case.name)
        tensors = load_file(case / "adapter" / "adapter_model.safetensors")
        shapes = {key: value.shape for key, value in base.items()}
        found = targets(said, {key: value.shape for key, value in tensors.items()}, shapes, case.name)
        assert {key for key in base if not np.array_equal(base[key], merged[key])} == set(found)
        for key, target in found.items():
            arrays = [tensors[name] for name in target.sources]
            if target.kind == "whole":
                assert np.array_equal(arrays[0], merged[key])
                continue
            delta = delta_of(target, *arrays, base[key].shape)
            np.testing.assert_allclose(base[key] + delta, merged[key], rtol=1e-5, atol=1e-6)
