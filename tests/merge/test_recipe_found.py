"""Recipes as they are found: options without effect, anchors, tokenizers, names of the Hub, lines."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mpstore.errors import MpError, RecipeError
from mpstore.merge import recipe as recipes
from mpstore.merge import resolve

MODELS = """
    models:
      - model: a
        parameters: {weight: 1}
      - model: b
        parameters: {weight: 1}
"""


def read(text: str) -> recipes.Recipe:
    return recipes.from_yaml(textwrap.dedent(text))


def test_options_of_mergekits_command_are_left_out_with_a_note_and_a_line() -> None:
    plain = read(f"merge_method: linear{textwrap.dedent(MODELS)}")
    noted = read(
        """
        name: mine
        merge_method: linear
        models:
          - model: a
            parameters: {weight: 1, int8_mask: true}
          - model: b
            parameters: {weight: 1}
        parameters: {lazy_unpickle: true}
        low_cpu_memory: true
        random_seed: 4
        """
    )
    assert noted.text == plain.text
    assert [note.split(" has")[0] for note in noted.notes] == [
        "line 2: name",
        "line 6: int8_mask",
        "line 9: lazy_unpickle",
        "line 10: low_cpu_memory",
        "line 11: random_seed",
    ]
    masked = textwrap.dedent(MODELS).replace("1}", "1, int8_mask: 1}")
    own = read(f"merge_method: ties\nbase_model: c{masked}")
    assert [note[:17] for note in own.notes] == ["line 5: int8_mask", "line 7: int8_mask"]
    ties = read(f"merge_method: ties\nbase_model: c{textwrap.dedent(MODELS)}parameters: {{int8_mask: true}}")
    assert ties.notes == ()
    with pytest.raises(RecipeError, match="line 2: unknown key 'lazy_unpikle'"):
        recipes.from_yaml("merge_method: linear\nlazy_unpikle: true\nmodels: [{model: a}]")


def test_merge_keys_and_anchors_mean_what_yaml_says() -> None:
    spelled = read(
        """
        merge_method: dare_linear
        base_model: c
        models:
          - model: a
            parameters: {weight: 0.5, density: 0.6}
          - model: b
            parameters: {weight: 0.25, density: 0.6}
        """
    )
    for merged in ("<<: *common", "<<: [*common, {density: 0.9}]"):
        found = read(
            f"""
            merge_method: dare_linear
            base_model: c
            models:
              - model: a
                parameters: &common {{weight: 0.5, density: 0.6}}
              - model: b
                parameters:
                  {merged}
                  weight: 0.25
            """
        )
        assert found.text == spelled.text
    for bad in ("&x {<<: *x, weight: 1}", "{<<: 3}", "{<<: [1]}"):
        with pytest.raises(RecipeError, match=r"line \d"):
            read(f"merge_method: linear\nmodels: [{{model: a, parameters: {bad}}}]")


@pytest.mark.parametrize(
    "said",
    ["tokenizer_source: base", "tokenizer_source: c", "tokenizer_source: model:c", "tokenizer: {source: c}"],
)
def test_the_tokenizer_of_the_base_may_be_named(said: str) -> None:
    assert read(f"merge_method: linear\nbase_model: c{textwrap.dedent(MODELS)}{said}").base == "c"
    with pytest.raises(RecipeError, match="a tokenizer from 'b' is not supported"):
        read(f"merge_method: linear\nbase_model: c{textwrap.dedent(MODELS)}tokenizer_source: b")


def test_models_taken_apart_are_put_together() -> None:
    """As cards of mergekit's first versions have them."""
    spelled = read(
        """
        merge_method: dare_ties
        base_model: org/base@v2
        models:
          - model: org/math
            parameters: {weight: 1, int8_mask: 1.0}
          - model: org/code+org/lora
            parameters: {weight: 1}
        """
    )
    apart = read(
        """
        merge_method: dare_ties
        base_model: {model: {path: org/base, revision: v2}, lora: null}
        models:
          - model: {model: {path: org/math, revision: null}}
            parameters: {weight: 1, int8_mask: 1.0}
          - model: {model: {path: org/code}, lora: {path: org/lora}}
            parameters: {weight: 1}
        """
    )
    assert apart.text == spelled.text
    assert apart.models == ("org/base@v2", "org/math", "org/code+org/lora")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("org/name@main", "hf://org/name@main"),
        ("https://huggingface.co/org/name/tree/main", "hf://org/name"),
        ("./models/math", "there is no directory"),
        ("~/nowhere/math", "there is no directory"),
        ("/nowhere/models/math", "there is no directory /nowhere/models"),
        ("a:b", "a parameter has a value"),
        ("C:\\models\\math", "there is no commit yet"),
    ],
)
def test_a_model_that_is_not_there_is_said_with_its_line(tmp_path: Path, name: str, hint: str) -> None:
    from mpstore import Repository

    repository = Repository.init(tmp_path / "store")
    text = f"merge_method: linear\nmodels:\n- model: '{name}'\n  parameters: {{weight: 1}}\n"
    with pytest.raises(MpError, match=r"^line 3: .*") as missing:
        repository.plan(recipe=text, directory=tmp_path)
    assert hint in str(missing.value.hint)


def test_what_an_operator_refuses_for_a_tensor_names_tensor_and_line() -> None:
    recipe = recipes.from_yaml(
        "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n"
        "- model: b\n  parameters: {weight: [{filter: mlp, value: -1}, {value: 1}]}\n"
    )
    with pytest.raises(RecipeError, match=r"^line 3: .* sum to 0 \(tensor layers\.0\.mlp\)"):
        resolve.resolve(recipe, {"layers.0.attn": (2,), "layers.0.mlp": (2,)})


def test_slices_of_other_models_are_sent_to_passthrough() -> None:
    with pytest.raises(RecipeError, match="line 4: other models") as refused:
        recipes.from_yaml(
            "merge_method: linear\nslices:\n- sources: [{model: a, layer_range: [0, 2]}]\n"
            "- sources: [{model: b, layer_range: [2, 4]}]\nparameters: {weight: 1}"
        )
    assert "passthrough" in str(refused.value.hint)


def test_models_have_the_lines_on_which_they_are_first_named() -> None:
    recipe = read("merge_method: linear" + textwrap.dedent(MODELS) + "base_model: a\n")
    assert recipe.lines == {"a": 3, "b": 5}
    with pytest.raises(RecipeError, match="line 4: ties needs a weight for b"):
        recipes.from_yaml(
            "merge_method: ties\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: b}\nbase_model: c"
        )


def test_dtypes_are_known_by_their_short_names_too() -> None:
    for word in ("bf16", "BF16", "bfloat16", "torch.bfloat16"):
        assert read(f"merge_method: linear{textwrap.dedent(MODELS)}dtype: {word}").out_dtype == "BF16"


def test_the_file_is_named(tmp_path: Path) -> None:
    from mpstore import Repository

    repository = Repository.init(tmp_path / "store")
    recipe = tmp_path / "mine.yml"
    recipe.write_text("merge_method: linear\nmodels:\n- model: org/name\n  parameters: {weight: 1}\n")
    with pytest.raises(Exception, match=r"mine\.yml, line 3: no branch.*'org/name'") as missing:
        repository.plan(recipe=recipe)
    assert missing.value.hint == "a model of the Hub is hf://org/name"  # type: ignore[attr-defined]
    (tmp_path / "models" / "math").mkdir(parents=True)
    recipe.write_text("merge_method: linear\nmodels:\n- model: models/maht\n  parameters: {weight: 1}\n")
    with pytest.raises(Exception, match=r"mine\.yml, line 3: no .* directory 'models/maht'") as missing:
        repository.plan(recipe=recipe, directory=tmp_path)
    assert missing.value.hint == "did you mean 'math'?"  # type: ignore[attr-defined]
    recipe.write_text("merge_method: linear\nmodels: [{model: a, parameters: {wieght: 1}}]\n")
    with pytest.raises(RecipeError, match=r"mine\.yml, line 2: linear has no parameter 'wieght'"):
        repository.plan(recipe=recipe)
    recipe.write_text("")
    with pytest.raises(RecipeError, match=r"mine\.yml: the recipe is empty"):
        repository.plan(recipe=recipe)
    with pytest.raises(RecipeError, match=r"^line 2"):
        repository.plan(recipe="merge_method: linear\nmodel: []\n")
