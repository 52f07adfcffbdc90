"""Recipes: mergekit's YAML and flags, what they mean, and everything that can be wrong with them."""

from __future__ import annotations

import contextlib
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpstore.errors import RecipeError, UsageError
from mpstore.merge import recipe as recipes
from mpstore.merge.operators.table import OPERATORS, find
from mpstore.merge.recipe_settings import Condition, Conditions, Gradient

TIES = """
    models:
      - model: org/base
        # no parameters necessary for base model
      - model: org/math
        parameters:
          density: 0.5
          weight: 0.5
      - model: org/code
        parameters:
          density: [1, 0.7, 0.1] # density gradient
          weight:
            - filter: mlp
              value: 0.5
            - value: 0
    merge_method: ties
    base_model: org/base
    parameters:
      normalize: true
      int8_mask: true
    dtype: float16
    tokenizer_source: base
"""

SLERP = """
    slices:
      - sources:
          - model: A
            layer_range: [0, 32]
          - model: B
            layer_range: [0, 32]
    merge_method: slerp
    base_model: A
    parameters:
      t:
        - filter: self_attn
          value: [0, 0.5, 0.3, 0.7, 1]
        - filter: mlp
          value: [1, 0.5, 0.7, 0.3, 0]
        - value: 0.5 # fallback for rest of tensors
    dtype: bfloat16
"""

STACK = """
    slices:
      - sources:
        - model: A
          layer_range: [0, 3]
      - sources:
        - model: B
          layer_range: [1, 4]
          parameters:
            scale:
              - filter: o_proj
                value: 0.0
              - value: 1.0
    merge_method: passthrough
    dtype: float16
"""


def read(text: str) -> recipes.Recipe:
    return recipes.from_yaml(textwrap.dedent(text))


def test_a_ties_recipe_as_people_write_them():
    recipe = read(TIES)
    assert (recipe.operator, recipe.base, recipe.experts) == ("ties", "org/base", ("org/math", "org/code"))
    assert recipe.expert_params[0] == {"density": 0.5, "weight": 0.5}
    assert recipe.expert_params[1]["density"] == Gradient((1.0, 0.7, 0.1))
    assert recipe.expert_params[1]["weight"] == Conditions((Condition("mlp", 0.5), Condition(None, 0.0)))
    assert recipe.params == {"normalize": True, "int8_mask": True}
    assert recipe.out_dtype == "F16"
    assert recipe.models == ("org/base", "org/math", "org/code")


def test_a_slerp_recipe_with_slices():
    recipe = read(SLERP)
    assert (recipe.base, recipe.experts, recipe.out_dtype) == ("A", ("B",), "BF16")
    assert recipe.slices[0].layers == 32
    assert not recipe.stacked


def test_a_stack():
    recipe = read(STACK)
    assert recipe.stacked
    assert (recipe.base, recipe.base_given, recipe.experts) == ("A", False, ("B",))
    assert [one.layers for one in recipe.slices] == [3, 3]


@pytest.mark.parametrize("text", [TIES, SLERP, STACK])
def test_the_canonical_text_means_the_same(text):
    recipe = read(text)
    again = recipes.from_yaml(recipe.text)
    assert again.text == recipe.text
    assert (again.operator, again.base, again.experts, again.expert_params, again.params, again.slices) == (
        recipe.operator,
        recipe.base,
        recipe.experts,
        recipe.expert_params,
        recipe.params,
        recipe.slices,
    )


def test_spelling_does_not_show_in_the_text():
    left = read(
        "{merge_method: ties, base_model: b, models: [{model: m, parameters: {weight: 1, density: .2}}]}"
    )
    right = read(
        """
        base_model: "b"
        models:
        - parameters: {density: 2.0e-1, weight: 1.0}
          model: m
        merge_method: TIES
        """
    )
    assert left.text == right.text


def test_flags_mean_what_the_recipe_means():
    flags = recipes.from_flags("b", ["m:weight=1,density=.2", ("c", {"weight": 0.5})], "ties", ["lambda=.9"])
    assert recipes.from_yaml(flags.text).text == flags.text
    assert flags.experts == ("m", "c")
    assert flags.expert_params == ({"weight": 1.0, "density": 0.2}, {"weight": 0.5})
    assert flags.params == {"lambda": 0.9}


def test_flags_fill_in_a_missing_weight_and_recipes_do_not():
    assert recipes.from_flags("b", ["m"], "ties").expert_params == ({"weight": 1.0},)
    assert recipes.from_flags("b", ["m", "c"], "ties", {"weight": 0.3}).params == {"weight": 0.3}
    with pytest.raises(RecipeError, match="ties needs a weight for m"):
        read("{merge_method: ties, base_model: b, models: [{model: m}]}")


def test_flags_that_cannot_be_meant():
    for expert in ("m:weight", "m:weight=", ":weight=1", "m:weight=1,weight=2"):
        if expert == "m:weight":  # a name with a colon and no parameters
            assert recipes.from_flags("b", [expert], "ties").experts == ("m:weight",)
            continue
        with pytest.raises(UsageError):
            recipes.from_flags("b", [expert], "ties")
    assert recipes.from_flags("b", ["hf://org/name:weight=1"], "ties").experts == ("hf://org/name",)
    with pytest.raises(UsageError, match="no model to merge"):
        recipes.from_flags("b", [], "ties")
    with pytest.raises(UsageError, match="needs a base"):
        recipes.from_flags(None, ["m"], "ties")
    with pytest.raises(UsageError, match="no dtype"):
        recipes.from_flags("b", ["m"], "ties", out_dtype="float17")


def test_without_a_base_the_first_model_is_origin_and_expert():
    recipe = read(f"{{merge_method: linear, {TWO_WEIGHTS}}}")
    assert (recipe.base, recipe.base_given, recipe.experts) == ("a", False, ("a", "b"))


def test_a_listed_base_counts_in_linear_and_not_in_ties():
    body = "base_model: a, models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]"
    assert read(f"{{merge_method: linear, {body}}}").experts == ("a", "b")
    ties = read(f"{{merge_method: ties, {body}}}")
    assert ties.experts == ("b",)
    assert ties.notes == ("line 1: parameters of the base have no effect with ties",)


def test_a_weight_for_all_counts_an_unlisted_base_as_mergekit_does():
    body = "base_model: a, models: [{model: b}, {model: c}], parameters: {weight: 0.5}"
    recipe = read(f"{{merge_method: linear, {body}}}")
    assert recipe.experts == ("b", "c", "a")
    assert recipe.notes == ("line 1: a counts as one of the models, with the weight of all of them",)
    assert read(recipe.text).experts == recipe.experts
    own = "base_model: a, models: [{model: b, parameters: {weight: 1}}, {model: c, parameters: {weight: 3}}]"
    assert read(f"{{merge_method: linear, {own}}}").experts == ("b", "c")
    flags = recipes.from_flags("a", ["b:weight=2", "c"], "linear", ["weight=.5"])
    assert flags.expert_params == ({"weight": 2.0}, {"weight": 0.5})
    again = recipes.from_yaml(flags.text)
    assert (again.experts, again.expert_params) == (("b", "c"), flags.expert_params)


def test_karcher_counts_an_unlisted_base_in_recipes_as_mergekit_does():
    assert read("{merge_method: karcher, base_model: a, models: [{model: b}, {model: c}]}").experts == (
        "b",
        "c",
        "a",
    )
    flags = recipes.from_flags("a", ["b", "c"], "karcher")
    assert flags.experts == ("b", "c")
    assert recipes.from_yaml(flags.text).experts == ("b", "c")
    assert recipes.from_flags("a", ["b", "c"], "karcher", ["count_base=true"]).experts == ("b", "c", "a")


def test_spheres_without_a_base_interpolate_weights():
    body = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]"
    for method in ("nuslerp", "multislerp"):
        assert read(f"{{merge_method: {method}, {body}}}").params == {"vectors": "weights"}
        assert read(f"{{merge_method: {method}, base_model: c, {body}}}").params == {}
        with pytest.raises(RecipeError, match="needs a base"):
            read(f"{{merge_method: {method}, {body}, parameters: {{vectors: deltas}}}}")


def test_passthrough_of_one_model_reads_nothing():
    for recipe in (
        read("{merge_method: passthrough, models: [{model: a, parameters: {scale: 0.5}}]}"),
        recipes.from_flags("base", ["a:scale=0.5"], "passthrough"),
        recipes.from_flags(None, ["a"], "passthrough", ["scale=0.5"]),
    ):
        assert (recipe.base, recipe.experts, recipe.params) == ("a", (), {"scale": 0.5})
        assert recipes.from_yaml(recipe.text).text == recipe.text


TWO_WEIGHTS = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]"
MODELS = "models: [{model: a}]\n"
TIES_HEAD = "merge_method: ties\nbase_model: b\nmodels:\n- model: a\n  parameters:\n"

WRONG = [
    ("merge_methode: ties\nmodels: [{model: a}]", 1, "merge_methode", "merge_method"),
    ("merge_method: tiess\nmodels: [{model: a}]", 1, "tiess", "ties"),
    ("merge_method: ties\nmodels:\n- model: a\n  parameter: {weight: 1}", 4, "parameter", "parameters"),
    ("merge_method: ties\nmodels:\n- model: a\n  weight: 1", 4, "weight", "parameters"),
    (TIES_HEAD + "    densty: 1", 6, "densty", "density"),
    ("merge_method: slerp\nbase_model: b\n" + MODELS + "parameters:\n  t: 1\n  gamma: 1", 6, "gamma", ""),
    (TIES_HEAD + "    lambda: 1", 6, "lambda", "whole merge"),
    ("merge_method: ties\nmerge_method: ties\nmodels: [{model: a}]", 2, "twice", ""),
    ("merge_method: ties\nbase_model: b\nmodels:\n- {model: a}\n- {model: a}", 5, "twice", ""),
    ("models: [{model: a, parameters: {weight: 1}}]\nmerge_method: ties", 2, "needs a base", ""),
    ("merge_method: ties\nmodels: []", 2, "empty", ""),
    ("merge_method: ties", None, "models or slices", ""),
    ("models: [{model: a}]", None, "merge_method", ""),
    ("", None, "empty", ""),
    ("- 1", 1, "mapping", ""),
    ("merge_method: [ties]\nmodels: [{model: a}]", 1, "name", ""),
    ("merge_method: ties\nmodels: [{model: }]", 2, "name", ""),
    ("merge_method: ties\nmodels: {model: a}", 2, "list", ""),
    ("merge_method: ties\nmodels: [{model: a}]\nmodules: {}", 3, "not supported", "filters"),
    ("base_model: a\ngate_mode: hidden\nexperts: []", 2, "mixtures of experts", "mergekit-moe"),
    ("merge_method: ties\nmodels: [{model: a}]\nchat_template: auto", 3, "not supported", ""),
    ("merge_method: ties\n" + MODELS + "parameters: {foo: 1, dens: 2}", 3, "'foo' and no 'dens'", "density"),
    ("merge_method: linear\n" + TWO_WEIGHTS + "\ntokenizer_source: union", 3, "not supported", "of a:"),
    ("merge_method: linear\n" + TWO_WEIGHTS + "\ntokenizer: {source: b}", 3, "not supported", "base"),
    ("merge_method: ties\n" + MODELS + "tokenizer: {source: base, tokens: {}}", 3, "not supported", ""),
    ("merge_method: ties\nmodels: [{model: a}]\ndtype: float17", 3, "float17", "float16"),
    ("merge_method: ties\nmodels: [{model: a}]\n  bad: [", 3, "indentation", "column"),
    ("merge_method: ties\nmodels: [{model: *x}]", 2, "YAML", ""),
    ("merge_method: !!python/object:os.a ties\nmodels: [{model: a, parameters: {t: !!x 1}}]", 2, "tag", ""),
    ("merge_method: ties\nmodels: [{model: a}]\n---\nmerge_method: ties", 3, "second document", ""),
    ("merge_method: dare_ties\nbase_model: b\n" + MODELS + "random_seed: 3", 4, "seed", "--seed 3"),
    ("merge_method:\tties", 1, "a tab", "spaces"),
    ("merge_method: ties\nmodels: [{model: a}\nbase_model: b", 3, "YAML", "base_model: b"),
    ("merge_method: ties\nmodels: [{model: {path: a, lora: b}}]", 2, "'lora' does not go with 'path'", ""),
    ("merge_method: ties\nmodels: [{model: {revision: a}}]", 2, "'revision' does not go with 'model'", ""),
    ("merge_method: ties\nmodels: [{model: {path: }}]", 2, "it names none", ""),
    ("merge_method: ties\nmodels: [{model: [a]}]", 2, "a list", ""),
    ("merge_method: ties\nmodels: [{model: a, revision: x}]", 2, "@REVISION", ""),
    ("merge_method: ties\n" + MODELS + "base_model: b\nparameters:\n  dtype: float16", 5, "dtype", "itself"),
    ("merge_method: ties\nslices: [{sources: [{model: a}]}]", 2, "layer_range", "layers 0 to 23"),
    ("merge_method: ties\nslices: [{model: a, layer_range: [0, 2]}]", 2, "'model'", "list of sources"),
    ("merge_method: ties\nmodels: [{model: a, layer_range: [0, 2]}]", 2, "layer_range", "under slices"),
    ("merge_method: ties\nnormalize: true\n" + MODELS, 2, "normalize", "stands under parameters"),
    ("```yaml\nmerge_method: ties", 1, "code block", "```"),
    ("merge_method: ties\nmodels: [{model: a}]\nt:\n- filter: *\n  value: 1", 4, "star", '"*"'),
    ("merge_method: ties\nslices: [{sources: [{model: a, layer_range: [4, 2]}]}]", 2, "layer_range", ""),
    ("merge_method: ties\nslices: [{sources: [{model: a, layer_range: [0, 2, 3]}]}]", 2, "layer_range", ""),
    ("merge_method: ties\nslices: [{source: []}]", 2, "source", "sources"),
    ("merge_method: linear\n" + TWO_WEIGHTS.replace("3", "-1"), 2, "sum to 0", ""),
    ("merge_method: linear\n" + TWO_WEIGHTS + "\nparameters: {density: 1}", 3, "density", "leave it out"),
    (TIES_HEAD + "    seed: 1", 6, "seed", "--seed"),
    ("merge_method: della\nbase_model: b\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: c, "
     "parameters: {weight: 1, density: .9}}", 5, "density ± epsilon", "epsilon below 0.1"),
    ("merge_method: slerp\nbase_model: b\nmodels: [{model: a}, {model: c}]\nparameters: {t: 1}", 3, "1", ""),
    ("merge_method: model_stock\nbase_model: b\nmodels: [{model: a}]", 3, "at least 2", ""),
    ("merge_method: slerp\nbase_model: b\nmodels: [{model: a}]", None, "slerp needs a t", ""),
    ("merge_method: passthrough\nmodels: [{model: a}, {model: b}]", None, "one model", "slices"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words", "hint"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_its_line_and_the_nearest_known_word(text, line, words, hint):
    with pytest.raises(UsageError) as caught:
        recipes.from_yaml(text)
    error = caught.value
    assert words in error.message
    assert hint in f"{error.message} {error.hint}"
    if line is not None:
        assert error.message.startswith(f"line {line}: ")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("density", "0"),
        ("density", "1.5"),
        ("density", "-0.1"),
        ("density", ".nan"),
        ("density", "[0.5, 0]"),
        ("density", "[{filter: mlp, value: 2}]"),
        ("density", "[{filter: mlp}]"),
        ("density", "[{filtr: mlp, value: 1}]"),
        ("density", "[{filter: 3, value: 1}]"),
        ("density", "[]"),
        ("density", "true"),
        ("density", "much"),
        ("density", "null"),
        ("weight", ".inf"),
        ("weight", "1" + "0" * 400),
        ("weight", "0x" + "f" * 400),
        ("weight", "[0.5, [1]]"),
        ("gamma", "0.1"),
    ],
)
def test_a_value_no_parameter_may_have(parameter, value):
    with pytest.raises(RecipeError, match="line 6"):
        recipes.from_yaml(
            "merge_method: ties\nbase_model: b\nmodels:\n- model: a\n  parameters:\n"
            f"    {parameter}: {value}\n    {'weight' if parameter == 'density' else 'density'}: 1\n"
        )


def test_global_values_no_parameter_may_have():
    for word in ("normalize=perhaps", "lambda=nan", "rescale=l2", "int8_mask=7"):
        with pytest.raises(RecipeError):
            recipes.from_flags("b", ["m"], "dare_ties", [word])
    with pytest.raises(RecipeError, match="whole number"):
        recipes.from_flags("b", ["m"], "karcher", ["max_iter=2.5"])


def test_numbers_as_yaml_reads_them():
    recipe = read("{merge_method: nearswap, base_model: b, models: [{model: a}], parameters: {t: 1e-4}}")
    assert recipe.params == {"t": 1e-4}


def test_invariant_11_no_yaml_bombs():
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    inside = (
        "merge_method: ties\nmodels:\n- model: a\n  parameters:\n"
        + textwrap.indent(laughs, "    ")
        + "    weight: *a11\n"
    )
    for text in (
        inside,
        "merge_method: " + "[" * 100_000,
        "merge_method: ties\nmodels: &m [{model: a, parameters: *m}]",
        "x" * (1 << 21),
        "models: [" + "{model: a}," * 60_000 + "]\nmerge_method: ties",
    ):
        with pytest.raises(RecipeError):
            recipes.from_yaml(text)


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_recipe_error(text):
    with contextlib.suppress(RecipeError):
        recipes.from_yaml(text)


def test_slices_of_a_merge_cover_equal_layers_in_order():
    body = "merge_method: ties\nbase_model: b\nparameters: {weight: 1}\nslices:\n"
    fine = "- sources: [{model: a, layer_range: [0, 2]}]\n- sources: [{model: a, layer_range: [2, 4]}]\n"
    assert recipes.from_yaml(body + fine).experts == ("a",)
    for wrong in (
        "- sources: [{model: a, layer_range: [1, 2]}]",
        "- sources: [{model: a, layer_range: [0, 2]}]\n- sources: [{model: a, layer_range: [3, 4]}]",
        "- sources: [{model: a, layer_range: [0, 2]}]\n- sources: [{model: c, layer_range: [2, 4]}]",
        "- sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 3]}]",
        "- sources: [{model: a, layer_range: [0, 2]}, {model: a, layer_range: [0, 2]}]",
        "- {sources: [{model: a, layer_range: [0, 2]}], base_model: c}",
        "- {sources: [{model: a, layer_range: [0, 2]}], residual_weight: 1}",
        "- sources: []",
    ):
        with pytest.raises(RecipeError):
            recipes.from_yaml(body + wrong)
    with pytest.raises(RecipeError, match="one source"):
        recipes.from_yaml(
            "merge_method: passthrough\n"
            "slices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1]}]}]"
        )


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_can_be_said_by_flags_and_read_again(name):
    op = OPERATORS[name]
    needed = [f"{one.name}={one.default}" for one in op.parameters if one.required and one.scope == "global"]
    count = max(op.models[0], 1)
    recipe = recipes.from_flags("base", [f"m{i}" for i in range(count)], name, needed)
    again = recipes.from_yaml(recipe.text)
    assert (again.text, again.experts, again.base) == (recipe.text, recipe.experts, recipe.base)


def test_names_and_aliases_of_operators():
    assert find("TIES").name == "ties"
    assert find("dare-ties").name == "dare_ties"
    assert find("mean").name == "average"
    with pytest.raises(UsageError, match="nearest is 'task_arithmetic'"):
        find("task_arithmetics")


def test_shapes_that_recipes_come_in():
    evolved = read(
        """
        base_model: b
        merge_method: task_arithmetic
        parameters: {lambda: 0.5676097213578511, normalize: 1.0}
        slices:
        - sources:
          - {layer_range: [0, 28], model: b}
          - {layer_range: [0, 28], model: m, parameters: {weight: 0.5}}
          - {layer_range: [0, 28], model: c, parameters: {weight: 0.5}}
        tokenizer: {}
        chat_template:
        """
    )
    assert (evolved.experts, evolved.params["normalize"]) == (("m", "c"), True)
    shared = read(
        """
        merge_method: della_linear
        base_model: 'E:\\models\\base'
        models:
        - {model: m, parameters: {weight: [0.9, 0.2, 0.95], density: 0.5}}
        - {model: c, parameters: {weight: [{filter: self_attn, value: 0.3}, {value: 0.2}]}}
        parameters: {density: 0.6, epsilon: 0.05, lambda: 1, normalize: true, int8_mask: true}
        dtype: float32
        out_dtype: bfloat16
        """
    )
    assert (shared.base, shared.out_dtype, shared.params["density"]) == ("E:\\models\\base", "BF16", 0.6)
    patient = read(
        "{merge_method: karcher, models: [{model: m}, {model: c}], parameters: {tol: 1e-10, max_iter: 1200}}"
    )
    assert patient.params == {"tol": 1e-10, "max_iter": 1200}
