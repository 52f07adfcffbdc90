"""Recipes that somebody mistyped, cut off or made up: a recipe, or an error of ours that says where."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore.errors import MpError
from mpstore.merge import recipe as recipes
from mpstore.merge.operators.table import OPERATORS

RECIPES = (
    """
models:
  - model: org/base
  - model: org/math
    parameters: {density: 0.5, weight: 0.5}
  - model: org/code
    parameters:
      density: [1, 0.7, 0.1]
      weight: [{filter: mlp, value: 0.5}, {value: 0}]
merge_method: ties
base_model: org/base
parameters: {normalize: true, int8_mask: true}
dtype: float16
tokenizer_source: base
""",
    """
slices:
  - sources:
      - {model: a, layer_range: [0, 32]}
      - {model: b, layer_range: [0, 32]}
merge_method: slerp
base_model: a
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
dtype: bfloat16
""",
    """
slices:
  - sources: [{model: a, layer_range: [0, 24]}]
  - sources:
      - {model: b, layer_range: [8, 32], parameters: {scale: [{filter: o_proj, value: 0.0}, {value: 1.0}]}}
merge_method: passthrough
dtype: bfloat16
""",
    """
base_model: a
merge_method: della_linear
models:
  - &one {model: b, parameters: {weight: 1, density: 0.6, epsilon: 0.1}}
  - {model: c, parameters: {weight: 0.5, density: 0.6, epsilon: 0.1}}
parameters: {lambda: 0.9, normalize: false}
out_dtype: float32
name: mine
""",
)
KEYS = st.sampled_from(
    [
        "merge_method",
        "base_model",
        "models",
        "model",
        "parameters",
        "slices",
        "sources",
        "layer_range",
        "weight",
        "density",
        "t",
        "lambda",
        "value",
        "filter",
        "dtype",
        "out_dtype",
        "tokenizer_source",
        "normalize",
        "int8_mask",
        "name",
        "chat_template",
        "seed",
        "epsilon",
        "gamma",
    ]
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([*OPERATORS, "base", "union", "bfloat16", "float32", "a", "b", [0, 4], [4, 0], [], {}]),
    st.dates(),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def changed(draw: st.DrawFn, node: Any, odds: int) -> Any:
    """A document in which here and there something is another, gone, or there twice."""
    if draw(st.integers(0, odds)) == 0:
        return draw(VALUES)
    if isinstance(node, dict):
        out = {key: changed(draw, value, odds) for key, value in node.items() if draw(st.integers(0, odds))}
        return out | ({draw(KEYS): draw(VALUES)} if draw(st.integers(0, odds)) == 0 else {})
    if isinstance(node, list):
        out_list = [changed(draw, value, odds) for value in node if draw(st.integers(0, odds))]
        return out_list + out_list[: draw(st.integers(0, 1))] if draw(st.integers(0, odds)) == 0 else out_list
    return node


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A real recipe, changed as a document or as text."""
    text = draw(st.sampled_from(RECIPES))
    if draw(st.booleans()):
        return str(yaml.safe_dump(changed(draw, yaml.safe_load(text), draw(st.sampled_from([8, 20, 60])))))
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return text[:start] + draw(st.text(max_size=6)) + text[min(stop, start + 12) :]


def read(text: str) -> None:
    with contextlib.suppress(MpError):
        found = recipes.from_yaml(text)
        assert recipes.from_yaml(found.text).text == found.text  # what is kept in a commit means the same


@settings(max_examples=100, deadline=None)
@given(documents())
def test_a_changed_recipe_is_a_recipe_or_an_error_of_ours(text: str) -> None:
    read(text)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=5_000, deadline=None)
@given(documents())
def test_very_many_changed_recipes(text: str) -> None:
    read(text)
