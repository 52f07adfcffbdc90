"""A model's name as a recipe says it: a word, or taken apart, as cards of mergekit's first versions have it:
{model: {path: ORG/NAME, revision: REV}, lora: {path: ADAPTER}}, with nulls for what is not given.

Relies on recipe_nodes. Promises: one word, as it would be written today; anything else is a RecipeError.
"""

from __future__ import annotations

from typing import Any

import yaml

from mpstore.errors import RecipeError
from mpstore.merge.recipe_draft import where
from mpstore.merge.recipe_nodes import Reader, is_null, line_of


def reference(reader: Reader, node: Any, what: str, depth: int) -> str:
    """The name that a word or a mapping stands for: ORG/NAME@REV, or MODEL+ADAPTER."""
    if not isinstance(node, yaml.MappingNode):
        return reader.word(node, what, depth)
    keys = reader.mapping(node, what, ("model", "lora", "path", "revision"), depth)
    given = {key: one for key, one in keys.items() if not is_null(one)}
    first, mark, second = ("path", "@", "revision") if "path" in given else ("model", "+", "lora")
    strange = sorted(set(given) - {first, second})
    if first not in given or strange:
        named = f"{strange[0]!r} does not go with {first!r}" if strange else "it names none"
        raise RecipeError(f"{where(line_of(node))}{what} is a name, and in this mapping {named}")
    parts = [reference(reader, given[key], what, depth + 1) for key in (first, second) if key in given]
    return mark.join(parts)
