"""Each tensor's parameters: gradients, filters, precedence and slices by mergekit's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpstore.errors import RecipeError, UsageError
from mpstore.merge import layers
from mpstore.merge.recipe import Recipe, from_flags, from_yaml
from mpstore.merge.recipe_settings import Condition, Conditions, Gradient, evaluate
from mpstore.merge.resolve import contexts, resolve

PARTS = ("self_attn.o_proj.weight", "mlp.up_proj.weight")


def names(count: int, prefix: str = "model.layers.") -> dict[str, tuple[int, ...]]:
    found = {"model.embed_tokens.weight": (8, 4), "model.norm.weight": (4,), "lm_head.weight": (8, 4)}
    return found | {f"{prefix}{i}.{part}": (4, 4) for i in range(count) for part in PARTS}


def values(recipe: Recipe, shapes, parameter: str, expert: int | None = None) -> dict[str, float]:
    """The parameter's value for every tensor, as the operator will see it."""
    resolved = resolve(recipe, shapes)
    keys = [bytes([i]) * 32 for i in range(len(recipe.experts))]
    found = contexts(resolved, 0, keys, shapes)
    if expert is None:
        return {key: one.params[parameter] for key, one in found.items()}
    return {key: one.experts[expert].params[parameter] for key, one in found.items()}


def test_plain_settings_and_defaults():
    recipe = from_flags("b", ["m:weight=2", "c:weight=1,density=.5"], "ties", ["lambda=.5"])
    resolved = resolve(recipe, names(2))
    assert resolved.params == {"lambda": 0.5, "normalize": True, "rescale": "false", "int8_mask": False}
    assert resolved.experts == ({"weight": 2.0, "density": 1.0}, {"weight": 1.0, "density": 0.5})
    assert not resolved.tensors
    assert not resolved.outputs


def test_a_gradient_over_the_layers():
    recipe = from_yaml(
        "{merge_method: ties, base_model: b, models: [{model: m, parameters: {weight: [0, 1, 0.5]}}]}"
    )
    found = values(recipe, names(5), "weight", 0)
    by_layer = [found[f"model.layers.{i}.{PARTS[0]}"] for i in range(5)]
    assert by_layer == [0.0, 0.5, 1.0, 0.75, 0.5]
    assert found["model.embed_tokens.weight"] == found["lm_head.weight"] == 0.0  # t = 0 outside the layers


def test_one_layer_stands_at_the_end():
    recipe = from_yaml(
        "{merge_method: ties, base_model: b, models: [{model: m, parameters: {weight: [0, 1]}}]}"
    )
    assert values(recipe, names(1), "weight", 0)[f"model.layers.0.{PARTS[0]}"] == 1.0


def _mergekit_says(setting: list[float], t: float) -> float:
    """The rule in words: divide [0, 1] into equal parts, interpolate in the part t falls into."""
    parts = len(setting) - 1
    if parts == 0 or t >= 1:
        return float(setting[-1])
    part = int(t * parts)
    share = t * parts - part
    return setting[part] * (1 - share) + setting[part + 1] * share


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), st.floats(0, 1))
def test_gradients_interpolate(setting, t):
    assert evaluate(Gradient(tuple(setting)), "x", t) == pytest.approx(_mergekit_says(setting, t), abs=1e-12)


def test_gradients_of_words_and_flags_pick():
    assert [evaluate(Gradient(("a", "b", "c")), "x", t) for t in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "c"]
    assert evaluate(Gradient((True, False)), "x", 0.99) is True


def test_the_first_filter_that_fits_wins():
    setting = Conditions(
        (Condition("attn", 1.0), Condition("o_proj", 2.0), Condition(None, Gradient((3.0, 5.0))))
    )
    assert evaluate(setting, "a.self_attn.o_proj", 0.5) == 1.0
    assert evaluate(setting, "a.mlp.o_proj", 0.5) == 2.0
    assert evaluate(setting, "a.norm", 0.5) == 4.0
    assert evaluate(Conditions((Condition("attn", 1.0),)), "a.norm", 0.5) is None


def test_a_filter_that_is_part_of_no_name_is_said():
    conditions = "[{filter: mpl, value: 1}, {filter: mlp, value: 2}, {value: 0}]"
    recipe = from_yaml(
        f"{{merge_method: ties, base_model: b, models: [{{model: m, parameters: {{weight: {conditions}}}}}]}}"
    )
    assert resolve(recipe, names(2)).notes == ("the filter 'mpl' of weight is part of no tensor's name",)


def test_a_model_before_the_recipe_and_a_silent_filter_falls_through():
    recipe = from_yaml(
        """
merge_method: ties
base_model: b
models:
- {model: m, parameters: {weight: 1, density: [{filter: mlp, value: 0.1}]}}
- {model: c, parameters: {weight: 2}}
parameters:
  density: [{filter: self_attn, value: 0.4}]
"""
    )
    first, second = (values(recipe, names(2), "density", i) for i in range(2))
    assert first[f"model.layers.1.{PARTS[1]}"] == 0.1
    assert first[f"model.layers.1.{PARTS[0]}"] == 0.4
    assert first["lm_head.weight"] == 1.0
    assert second[f"model.layers.1.{PARTS[1]}"] == 1.0


def test_slices_source_before_slice_before_recipe():
    recipe = from_yaml(
        """
merge_method: ties
base_model: b
slices:
- sources:
  - {model: m, layer_range: [0, 2], parameters: {weight: [1, 2]}}
  - {model: b, layer_range: [0, 2]}
- sources:
  - {model: m, layer_range: [2, 5]}
  parameters: {weight: [3, 5], lambda: 0.5}
parameters: {weight: 9, density: 0.5}
"""
    )
    shapes = names(5)
    found = values(recipe, shapes, "weight", 0)
    assert [found[f"model.layers.{i}.{PARTS[0]}"] for i in range(5)] == [1, 2, 3, 4, 5]
    assert found["model.embed_tokens.weight"] == 1.0  # the first slice, at t = 0
    assert found["lm_head.weight"] == 3.0  # the last slice, at t = 0
    scaled = values(recipe, shapes, "lambda")
    assert [scaled[f"model.layers.{i}.{PARTS[0]}"] for i in range(5)] == [1, 1, 0.5, 0.5, 0.5]


def test_slices_must_cover_the_model():
    slices = "slices: [{sources: [{model: m, layer_range: [0, 3]}]}]"
    text = f"{{merge_method: slerp, base_model: b, parameters: {{t: 0.5}}, {slices}}}"
    with pytest.raises(RecipeError, match="has 4"):
        resolve(from_yaml(text), names(4))
    with pytest.raises(RecipeError, match="one stack"):
        resolve(from_yaml(text), names(3) | names(3, "vision.layers."))
    assert resolve(from_yaml(text), names(3)).params == {"t": 0.5}


def test_a_weight_that_no_condition_gives_is_named_with_its_tensor():
    recipe = from_yaml(
        "{merge_method: ties, base_model: b, "
        "models: [{model: m, parameters: {weight: [{filter: mlp, value: 1}]}}]}"
    )
    with pytest.raises(RecipeError, match=r"weight of m fits the tensor"):
        resolve(recipe, names(2))


def test_operators_checks_hold_on_every_tensor():
    recipe = from_yaml(
        "{merge_method: della, base_model: b, "
        "models: [{model: m, parameters: {weight: 1, density: [{filter: mlp, value: 0.9}, {value: 0.5}]}}]}"
    )
    with pytest.raises(UsageError, match="density ± epsilon"):
        resolve(recipe, names(2))


def test_an_interpolated_integer_is_refused_before_anything_is_read():
    recipe = from_yaml(
        "{merge_method: karcher, models: [{model: a}, {model: b}], parameters: {max_iter: [1, 4]}}"
    )
    with pytest.raises(RecipeError, match="whole number"):
        resolve(recipe, names(3))


def test_a_stack_names_the_source_of_every_output_tensor():
    recipe = from_yaml(
        """
merge_method: passthrough
slices:
- sources: [{model: a, layer_range: [0, 2]}]
- sources:
  - {model: b, layer_range: [1, 3], parameters: {scale: [{filter: o_proj, value: 0.5}, {value: 1}]}}
- sources: [{model: a, layer_range: [1, 2]}]
"""
    )
    base, other = names(2), names(3)
    del other["lm_head.weight"]
    resolved = resolve(recipe, base, [other])
    outputs = resolved.outputs
    by_layer = {i: outputs[f"model.layers.{i}.{PARTS[0]}"] for i in range(5)}
    assert [(one["model"], one["key"].split(".")[2]) for one in by_layer.values()] == [
        (0, "0"), (0, "1"), (1, "1"), (1, "2"), (0, "1"),
    ]  # fmt: skip
    assert f"model.layers.5.{PARTS[0]}" not in outputs
    assert outputs["model.embed_tokens.weight"] == {"model": 0, "key": "model.embed_tokens.weight"}
    assert outputs["lm_head.weight"]["model"] == 0
    scaled = {key for key, one in resolved.tensors.items() if one["global"] == {"scale": 0.5}}
    assert scaled == {f"model.layers.{i}.{PARTS[0]}" for i in (2, 3)}


def test_a_stack_of_layers_that_are_not_there():
    recipe = from_yaml("{merge_method: passthrough, slices: [{sources: [{model: a, layer_range: [0, 4]}]}]}")
    with pytest.raises(RecipeError, match="a has the layers 0 to 1, not 2"):
        resolve(recipe, names(2))


@pytest.mark.parametrize(
    ("name", "prefix", "index"),
    [
        ("model.layers.12.mlp.experts.3.w1.weight", "model.layers.", 12),
        ("bert.encoder.layer.0.output.dense.weight", "bert.encoder.layer.", 0),
        ("transformer.h.7.attn.c_attn.weight", "transformer.h.", 7),
        ("encoder.block.3.layer.1.DenseReluDense.wi.weight", "encoder.block.", 3),
        ("blocks.4.norm1.weight", "blocks.", 4),
        ("text/model.layers.2.x", "text/model.layers.", 2),
    ],
)
def test_layers_in_names(name, prefix, index):
    parts = layers.layered(name)
    assert parts is not None
    assert (parts.prefix, parts.index) == (prefix, index)
    assert parts.at(index) == name


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "lm_head.weight", "layers.weight", "mylayers.3.x", "h.x.1"]
)
def test_names_without_a_layer(name):
    assert layers.layered(name) is None


def test_many_tensors_resolve_quickly_and_share_what_is_equal():
    shapes = names(10_000)
    recipe = from_flags("b", [f"m{i}:weight=1" for i in range(20)], "ties")
    found = contexts(resolve(recipe, shapes), 0, [b"k"] * 20, shapes)
    assert len({id(one.experts) for one in found.values()}) == 1
