"""From a recipe's text to YAML nodes, each value with its line: what any schema would ask for.

Relies on PyYAML's parser (no object is ever constructed from a tag). Promises: size, depth and aliases are
bounded; unknown keys, duplicate keys and what is no YAML are RecipeErrors that say the line.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from mpstore.errors import RecipeError
from mpstore.merge import recipe_unknown
from mpstore.merge.recipe_draft import where

MAX_CHARACTERS: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_NODES: Final = 20_000

_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")}
_MERGE: Final = "tag:yaml.org,2002:merge"
_SHOWN: Final = 60
_Constructor: Any = yaml.constructor.SafeConstructor


class Reader:
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

    def mapping(
        self, node: Any, what: str, known: tuple[str, ...], depth: int, idle: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Key -> value node of a mapping, keys checked against `known` (empty: any) and `idle`, which no hint
        names."""
        self.enter(node, depth)
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(
                f"{where(line_of(node))}{what} must be a mapping (key: value), and here is {_said(node)}",
                hint="write `- model: NAME`" if what == "a model" else None,
            )
        found: dict[str, Any] = {}
        weaker: dict[str, Any] = {}
        for key_node, value in node.value:
            self.enter(key_node, depth + 1)
            at = where(line_of(key_node))
            key = key_node.value
            if key_node.tag == _MERGE:
                weaker = self._merged(value, what, known, depth + 1, idle) | weaker
                continue
            if not isinstance(key, str):
                raise RecipeError(f"{at}a key is a word")
            if known and key not in known and key not in idle:
                if is_null(value) and recipe_unknown.is_known(key):
                    continue  # of what is not supported, nothing is asked
                raise recipe_unknown.error(key, what, known, at)
            if key in found:
                raise RecipeError(f"{at}{key!r} is given twice in {what}")
            found[key] = value
        return weaker | found

    def _merged(
        self, node: Any, what: str, known: tuple[str, ...], depth: int, idle: frozenset[str]
    ) -> dict[str, Any]:
        """What `<<: *name` or `<<: [*one, *other]` brings in; of several the first is the strongest."""
        found: dict[str, Any] = {}
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            found = self.mapping(one, what, known, depth, idle) | found
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
            raise RecipeError(f"{where(line_of(node))}{what} is a name, and here is {_said(node)}")
        return str(node.value).strip()


def _said(node: Any) -> str:
    """What a node is, for somebody who expected another."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    text = str(node.value)
    return f"{text[:40]!r}" if text.strip() else "nothing"


def is_null(node: Any) -> bool:
    """Whether nothing is given."""
    return isinstance(node, yaml.ScalarNode) and bool(node.tag.endswith(":null"))


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


def compose(text: str) -> Any:
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
        raise _not_yaml(error, text) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"this is not YAML: {error}") from error
    if node is None:
        raise RecipeError("the recipe is empty", hint="it needs merge_method and models or slices")
    return node


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> RecipeError:
    """What the parser stumbled over, in words for people, and the line itself."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return RecipeError(f"this is not YAML: {error.problem or error.context}")
    problem = str(error.problem or error.context)
    lines = text.splitlines()
    shown = lines[mark.line][:_SHOWN] if mark.line < len(lines) else ""
    said, hint = f"this is not YAML: {problem}", f"the line reads {shown!r}"
    if "\\t" in problem:
        said, hint = "a tab, and YAML is indented with spaces", "write two spaces for each tab"
    elif "expected <block end>" in problem:
        said = f"the indentation of {shown!r} fits no line above"
        hint = "keys of one mapping, and dashes of one list, begin in the same column"
    elif "could not find expected ':'" in problem:
        said = "a key without a colon above this line"
    elif shown.startswith("```"):
        said, hint = "the fence of a code block is no part of the recipe", "leave out the lines with ```"
    elif "alias" in str(error.context) and shown.rstrip().endswith("*"):
        said, hint = "a star of its own is written in quotes", 'filter: "*", or no filter, fits every tensor'
    return RecipeError(f"line {mark.line + 1}: {said}", hint=hint)
