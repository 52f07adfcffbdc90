"""From YAML to a draft: mergekit's schema, every key known by name and every value with its line.

Relies on recipe_nodes. Promises: unknown keys, and what mergekit has and this does not, are RecipeErrors that
say the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mpstore.errors import RecipeError
from mpstore.merge.recipe_draft import Draft, DraftModel, DraftSlice, Given, where
from mpstore.merge.recipe_idle import TOP_LEVEL
from mpstore.merge.recipe_nodes import Reader, compose, is_null, line_of
from mpstore.merge.recipe_reference import reference

DTYPES: Final[Mapping[str, str]] = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float64": "F64",
}
_TOP = (
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
)


def read(text: str) -> Draft:
    """The draft a YAML text stands for. Raises RecipeError with the line."""
    reader = Reader()
    keys = reader.mapping(compose(text), "the recipe", _TOP, 0, TOP_LEVEL)
    if "merge_method" not in keys:
        raise RecipeError("the recipe has no merge_method", hint="for example merge_method: ties")
    if ("models" in keys) == ("slices" in keys):
        raise RecipeError("a recipe has either models or slices", hint="models: [{model: math}, …]")
    return Draft(
        operator=_given_word(reader, keys["merge_method"], "merge_method"),
        base=_base(reader, keys),
        models=_models(reader, keys.get("models")),
        slices=_slices(reader, keys.get("slices")),
        params=_params(reader, keys.get("parameters"), 1),
        out_dtype=_dtype(reader, keys),
        tokenizer=_tokenizer(reader, keys),
        idle={key: Given(reader.plain(keys[key], 1), line_of(keys[key])) for key in keys if key in TOP_LEVEL},
    )


def _given_word(reader: Reader, node: Any, what: str) -> Given:
    return Given(reader.word(node, what, 1), line_of(node))


def _base(reader: Reader, keys: dict[str, Any]) -> Given | None:
    if "base_model" not in keys:
        return None
    node = keys["base_model"]
    return Given(reference(reader, node, "base_model", 1), line_of(node))


def _params(reader: Reader, node: Any, depth: int) -> dict[str, Given]:
    """Parameters by name; an empty `parameters:` has none."""
    if node is None or is_null(node):
        return {}
    pairs = reader.mapping(node, "parameters", (), depth)
    return {key: Given(reader.plain(value, depth + 1), line_of(value)) for key, value in pairs.items()}


def _models(reader: Reader, node: Any) -> tuple[DraftModel, ...]:
    if node is None:
        return ()
    found = []
    for one in reader.sequence(node, "models", 1):
        keys = reader.mapping(one, "a model", ("model", "parameters"), 2)
        found.append(_model(reader, one, keys))
    if not found:
        raise RecipeError(f"{where(line_of(node))}models is an empty list")
    return tuple(found)


def _model(reader: Reader, node: Any, keys: dict[str, Any]) -> DraftModel:
    if "model" not in keys:
        raise RecipeError(f"{where(line_of(node))}an entry has no model")
    layers = _layers(reader, keys["layer_range"]) if "layer_range" in keys else None
    name = reference(reader, keys["model"], "a model", 3)
    return DraftModel(name, _params(reader, keys.get("parameters"), 3), line_of(node), layers)


def _layers(reader: Reader, node: Any) -> tuple[int, int]:
    bounds = reader.plain(node, 4)
    whole = isinstance(bounds, list) and len(bounds) == 2 and all(type(one) is int for one in bounds)
    if not whole or not 0 <= bounds[0] < bounds[1] <= 100_000:
        raise RecipeError(
            f"{where(line_of(node))}layer_range is [first, end), not {bounds!r}",
            hint="layer_range: [0, 24] is the layers 0 to 23",
        )
    return bounds[0], bounds[1]


def _slices(reader: Reader, node: Any) -> tuple[DraftSlice, ...]:
    if node is None:
        return ()
    found = []
    for one in reader.sequence(node, "slices", 1):
        keys = reader.mapping(one, "a slice", ("sources", "base_model", "parameters"), 2)
        if "sources" not in keys:
            raise RecipeError(f"{where(line_of(one))}a slice has no sources")
        sources = []
        for source in reader.sequence(keys["sources"], "sources", 3):
            words = reader.mapping(source, "a source", ("model", "layer_range", "parameters"), 4)
            if "layer_range" not in words:
                raise RecipeError(
                    f"{where(line_of(source))}a source has no layer_range",
                    hint="layer_range: [0, 24] is the layers 0 to 23",
                )
            sources.append(_model(reader, source, words))
        params = _params(reader, keys.get("parameters"), 3)
        found.append(DraftSlice(tuple(sources), params, _base(reader, keys), line_of(one)))
    if not found or not all(one.sources for one in found):
        raise RecipeError(f"{where(line_of(node))}slices or sources is an empty list")
    return tuple(found)


def _tokenizer(reader: Reader, keys: dict[str, Any]) -> Given | None:
    """Whose tokenizer files are wanted; what else mergekit does to tokenizers is not supported."""
    if "tokenizer_source" in keys and "tokenizer" in keys:
        at = where(line_of(keys["tokenizer"]))
        raise RecipeError(f"{at}either tokenizer_source or tokenizer, not both")
    node = keys.get("tokenizer_source")
    if "tokenizer" in keys:
        inner = reader.mapping(keys["tokenizer"], "tokenizer", ("source", "tokens", "pad_to_multiple_of"), 1)
        for extra in sorted(set(inner) - {"source"}):
            raise RecipeError(
                f"{where(line_of(inner[extra]))}tokenizer: {extra} is not supported",
                hint=f"leave {extra} out",
            )
        node = inner.get("source")
    source = None if node is None else reader.plain(node, 2)
    return None if source is None else Given(source, line_of(node))


def _dtype(reader: Reader, keys: dict[str, Any]) -> str | None:
    """out_dtype, else dtype, as a safetensors name. Arithmetic is float32 whatever they say."""
    found = None
    for key in ("dtype", "out_dtype"):
        if key in keys:
            word = reader.plain(keys[key], 1)
            found = found if word is None else dtype_name(str(word), where(line_of(keys[key])) + key)
    return found


def dtype_name(word: str, what: str) -> str:
    """The safetensors name of a dtype as mergekit spells it. RecipeError: unknown."""
    short = word.removeprefix("torch.")
    if short.upper() in DTYPES.values():
        return short.upper()
    if short not in DTYPES:
        raise RecipeError(f"{what}: no dtype is called {word!r}", hint="one of " + ", ".join(DTYPES))
    return DTYPES[short]
