"""From YAML to a draft: mergekit's schema, every key known by name and every value with its line.

Relies on PyYAML's parser (no object is ever constructed from a tag). Promises: size, depth and aliases are
bounded; unknown keys, duplicate keys and what is not supported are RecipeErrors that say the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from mpstore.errors import RecipeError
from mpstore.merge.recipe_draft import Draft, DraftModel, DraftSlice, Given, where
from mpstore.suggestions import nearest

MAX_CHARACTERS: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_NODES: Final = 20_000

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
_UNSUPPORTED = {
    "modules": "merging module by module is not supported",
    "chat_template": "setting a chat template is not supported: the base's files are kept",
    "residual_weight": "residual_weight is not supported",
    "name": "a recipe has no name: --branch names what comes of it",
    "revision": "a revision belongs to the model's name: hf://ORG/NAME@REVISION, or a commit's id",
}
_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")}
_Constructor: Any = yaml.constructor.SafeConstructor


class _Reader:
    """Turns nodes into values, counting them: aliases share nodes, so a small text can stand for many."""

    def __init__(self) -> None:
        self.visited = 0

    def enter(self, node: Any, depth: int) -> None:
        self.visited += 1
        if self.visited > MAX_NODES or depth > MAX_DEPTH:
            raise RecipeError(
                f"{where(line_of(node))}the recipe holds more than {MAX_NODES} values or nests deeper than "
                f"{MAX_DEPTH}"
            )

    def mapping(self, node: Any, what: str, known: tuple[str, ...], depth: int) -> dict[str, Any]:
        """Key -> value node of a mapping, keys checked against `known` (empty: any)."""
        self.enter(node, depth)
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(
                f"{where(line_of(node))}{what} must be a mapping (key: value), and here is {_said(node)}",
                hint="write `- model: NAME`" if what == "a model" else None,
            )
        found: dict[str, Any] = {}
        for key_node, value in node.value:
            self.enter(key_node, depth + 1)
            at = where(line_of(key_node))
            key = key_node.value
            if not isinstance(key, str):
                raise RecipeError(f"{at}a key is a word")
            if key in _UNSUPPORTED and known:
                raise RecipeError(f"{at}{_UNSUPPORTED[key]}", hint=f"leave {key} out")
            if known and key not in known:
                raise RecipeError(f"{at}unknown key {key!r} in {what}", hint=_key_hint(key, known))
            if key in found:
                raise RecipeError(f"{at}{key!r} is given twice in {what}")
            found[key] = value
        return found

    def sequence(self, node: Any, what: str, depth: int) -> list[Any]:
        """The value nodes of a list."""
        self.enter(node, depth)
        if not isinstance(node, yaml.SequenceNode):
            raise RecipeError(
                f"{where(line_of(node))}{what} must be a list, and here is {_said(node)}",
                hint="each item begins with `- ` on a line of its own",
            )
        return list(node.value)

    def plain(self, node: Any, depth: int) -> Any:
        """Numbers, words, lists and mappings as Python has them."""
        self.enter(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(one, depth + 1) for one in node.value]
        if isinstance(node, yaml.MappingNode):
            pairs = self.mapping(node, "a condition", (), depth)
            return {key: self.plain(value, depth + 1) for key, value in pairs.items()}
        return _scalar(node)

    def word(self, node: Any, what: str, depth: int) -> str:
        """A non-empty text, as it is written (model: 7b is a name, not a number)."""
        self.enter(node, depth)
        if not isinstance(node, yaml.ScalarNode) or node.tag.endswith(":null") or not node.value.strip():
            raise RecipeError(f"{where(line_of(node))}{what} is a name")
        return str(node.value).strip()


def _said(node: Any) -> str:
    """What a node is, for somebody who expected another."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    text = str(node.value)
    return f"{text[:40]!r}" if text.strip() else "nothing"


def line_of(node: Any) -> int:
    """The line a node begins on, counted from 1."""
    return int(node.start_mark.line) + 1


def _scalar(node: Any) -> Any:
    if node.tag not in _SCALARS:
        raise RecipeError(f"{where(line_of(node))}the tag {node.tag} has no place in a recipe")
    if node.tag.rsplit(":", 1)[1] in ("str", "timestamp"):
        return node.value
    try:
        return _Constructor().construct_object(node)
    except (ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"{where(line_of(node))}{node.value!r} cannot be read") from error


def _key_hint(key: str, known: tuple[str, ...]) -> str:
    if key in ("weight", "density", "t", "scale") and "parameters" in known:
        return f"{key} stands under parameters"
    return nearest(key, known) or "the keys are " + ", ".join(known)


def _compose(text: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"the recipe has {len(text)} characters; {MAX_CHARACTERS} are the limit")
    try:
        depth = documents = 0
        event: Any
        for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:  # before anything recurses over it
                raise RecipeError(f"line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH}")
            if number >= 2 * MAX_NODES:
                raise RecipeError(f"the recipe holds more than {MAX_NODES} values")
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise RecipeError(
                    f"line {event.start_mark.line + 1}: a second document; a recipe is one",
                    hint="merge them one after the other, the first one's branch as a model of the next",
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = "" if mark is None else f"line {mark.line + 1}: "
        raise RecipeError(f"{at}this is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"this is not YAML: {error}") from error
    if node is None:
        raise RecipeError("the recipe is empty", hint="it needs merge_method and models or slices")
    return node


def read(text: str) -> Draft:
    """The draft a YAML text stands for. Raises RecipeError with the line."""
    reader = _Reader()
    keys = reader.mapping(_compose(text), "the recipe", _TOP, 0)
    if "merge_method" not in keys:
        raise RecipeError("the recipe has no merge_method", hint="for example merge_method: ties")
    if ("models" in keys) == ("slices" in keys):
        raise RecipeError("a recipe has either models or slices", hint="models: [{model: math}, …]")
    _check_tokenizer(reader, keys)
    return Draft(
        operator=_given_word(reader, keys["merge_method"], "merge_method"),
        base=_given_word(reader, keys["base_model"], "base_model") if "base_model" in keys else None,
        models=_models(reader, keys.get("models")),
        slices=_slices(reader, keys.get("slices")),
        params=_params(reader, keys.get("parameters"), 1),
        out_dtype=_dtype(reader, keys),
    )


def _given_word(reader: _Reader, node: Any, what: str) -> Given:
    return Given(reader.word(node, what, 1), line_of(node))


def _params(reader: _Reader, node: Any, depth: int) -> dict[str, Given]:
    """Parameters by name; an empty `parameters:` has none."""
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        return {}
    pairs = reader.mapping(node, "parameters", (), depth)
    return {key: Given(reader.plain(value, depth + 1), line_of(value)) for key, value in pairs.items()}


def _models(reader: _Reader, node: Any) -> tuple[DraftModel, ...]:
    if node is None:
        return ()
    found = []
    for one in reader.sequence(node, "models", 1):
        keys = reader.mapping(one, "a model", ("model", "parameters"), 2)
        found.append(_model(reader, one, keys))
    if not found:
        raise RecipeError(f"{where(line_of(node))}models is an empty list")
    return tuple(found)


def _model(reader: _Reader, node: Any, keys: dict[str, Any]) -> DraftModel:
    if "model" not in keys:
        raise RecipeError(f"{where(line_of(node))}an entry has no model")
    layers = _layers(reader, keys["layer_range"]) if "layer_range" in keys else None
    name = reader.word(keys["model"], "a model", 3)
    return DraftModel(name, _params(reader, keys.get("parameters"), 3), line_of(node), layers)


def _layers(reader: _Reader, node: Any) -> tuple[int, int]:
    bounds = reader.plain(node, 4)
    whole = isinstance(bounds, list) and len(bounds) == 2 and all(type(one) is int for one in bounds)
    if not whole or not 0 <= bounds[0] < bounds[1] <= 100_000:
        raise RecipeError(
            f"{where(line_of(node))}layer_range is [first, end), not {bounds!r}",
            hint="layer_range: [0, 24] is the layers 0 to 23",
        )
    return bounds[0], bounds[1]


def _slices(reader: _Reader, node: Any) -> tuple[DraftSlice, ...]:
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
                raise RecipeError(f"{where(line_of(source))}a source has no layer_range")
            sources.append(_model(reader, source, words))
        base = _given_word(reader, keys["base_model"], "base_model") if "base_model" in keys else None
        found.append(
            DraftSlice(tuple(sources), _params(reader, keys.get("parameters"), 3), base, line_of(one))
        )
    if not found or not all(one.sources for one in found):
        raise RecipeError(f"{where(line_of(node))}slices or sources is an empty list")
    return tuple(found)


def _check_tokenizer(reader: _Reader, keys: dict[str, Any]) -> None:
    """The base's tokenizer files are what a merge keeps; anything else is said not to be supported."""
    if "tokenizer_source" in keys and "tokenizer" in keys:
        at = where(line_of(keys["tokenizer"]))
        raise RecipeError(f"{at}either tokenizer_source or tokenizer, not both")
    node = keys.get("tokenizer_source")
    source = None if node is None else reader.plain(node, 1)
    if "tokenizer" in keys:
        node = keys["tokenizer"]
        inner = reader.mapping(node, "tokenizer", ("source", "tokens", "pad_to_multiple_of"), 1)
        if set(inner) - {"source"}:
            extra = sorted(set(inner) - {"source"})[0]
            raise RecipeError(f"{where(line_of(inner[extra]))}tokenizer: {extra} is not supported")
        source = reader.plain(inner["source"], 2) if "source" in inner else None
    if source not in (None, "base"):
        raise RecipeError(
            f"{where(line_of(node))}a tokenizer from {source!r} is not supported",
            hint="tokenizer_source: base keeps the base's tokenizer files",
        )


def _dtype(reader: _Reader, keys: dict[str, Any]) -> str | None:
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
    if short in DTYPES.values():
        return short
    if short not in DTYPES:
        raise RecipeError(f"{what}: no dtype is called {word!r}", hint="one of " + ", ".join(DTYPES))
    return DTYPES[short]
