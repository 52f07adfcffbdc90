"""Recipes: what to merge, said by mergekit's YAML or by flags, checked before anything is read.

Relies on the operators' table and the other recipe modules. Promises: pure; the same meaning gives the same
`text`; whatever can be known to be wrong without looking at a checkpoint is a UsageError here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpstore.errors import UsageError
from mpstore.merge import recipe_build, recipe_yaml
from mpstore.merge.operators.protocol import Value
from mpstore.merge.recipe_draft import Draft, DraftModel, Given
from mpstore.merge.recipe_values import Recipe, Slice, Source

__all__ = ["Recipe", "Slice", "Source", "from_flags", "from_yaml"]


def from_yaml(text: str) -> Recipe:
    """The recipe that a YAML text in mergekit's schema stands for. Raises RecipeError with the line."""
    return recipe_build.build(recipe_yaml.read(text))


def from_flags(
    base: str | None,
    experts: Sequence[str | tuple[str, Mapping[str, Value]]],
    operator: str,
    sets: Sequence[str] | Mapping[str, Value] = (),
    *,
    out_dtype: str | None = None,
) -> Recipe:
    """The recipe of `--base BASE --expert MODEL[:k=v,…] … --op NAME [--set k=v …]`.

    An expert is "math:weight=1,density=.2" or ("math", {"weight": 1, "density": .2}). A weight left out is 1.
    Raises UsageError.

    >>> from_flags("base", ["math:weight=1,density=.2"], "ties").experts
    ('math',)
    """
    models = []
    for expert in experts:
        name, params = _expert(expert) if isinstance(expert, str) else expert
        models.append(DraftModel(name, {key: Given(value) for key, value in params.items()}))
    shared = dict(sets) if isinstance(sets, Mapping) else _pairs(sets, "--set")
    draft = Draft(
        operator=Given(operator),
        base=None if base is None else Given(base),
        models=tuple(models),
        params={key: Given(value) for key, value in shared.items()},
        out_dtype=None if out_dtype is None else recipe_yaml.dtype_name(out_dtype, "out_dtype"),
        lenient=True,
    )
    return recipe_build.build(draft)


def _expert(text: str) -> tuple[str, dict[str, Value]]:
    """ "math:weight=1,density=.2" -> name and parameters; a URL keeps its colon."""
    if not text.strip():
        raise UsageError("--expert: the name is empty", hint="write --expert REV, or --expert REV:weight=1")
    name, colon, tail = text.rpartition(":")
    if not colon or "=" not in tail:
        return text, {}
    if not name:
        raise UsageError(f"--expert {text}: no model before the colon", hint="write --expert REV:weight=1")
    before, colon, more = name.rpartition(":")
    if colon and "=" in more:
        raise UsageError(
            f"--expert {text}: a colon between two parameters", hint=f"write {before}:{more},{tail}"
        )
    return name, _pairs(tail.split(","), f"--expert {name}")


def _pairs(words: Sequence[str], what: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for word in words:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not (key and equals and value):
            raise UsageError(f"{what}: {word!r} is not of the form name=value", hint="for example weight=0.5")
        if key in found:
            raise UsageError(f"{what}: {key} is given twice", hint="keep one of the two")
        found[key] = value
    return found
