"""Stacks of layers (passthrough with slices): which source tensor becomes which output tensor.

Relies on recipe and layers. Promises: pure; output layers count up from 0 in the order of the slices; what
the sources lack is a RecipeError that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mpstore.errors import RecipeError
from mpstore.merge import layers
from mpstore.merge.layers import Layered
from mpstore.merge.recipe import Recipe
from mpstore.merge.recipe_draft import where

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Placed:
    """Output tensor `key` is tensor `source` of model number `model` (0: the base), in slice `part` at t."""

    key: str
    model: int
    source: str
    part: int
    t: float


def arrange(recipe: Recipe, models: Sequence[Shapes]) -> Iterator[Placed]:
    """Every output tensor of a stack. `models`: tensors of [base, *experts]."""
    numbers = {name: i for i, name in enumerate(recipe.models)}
    yield from _outside(recipe, models, numbers)
    at = 0
    for part, one in enumerate(recipe.slices):
        source = one.sources[0]
        number = numbers[source.model]
        by_layer = _by_layer(source.model, models[number])
        for step in range(one.layers):
            found = by_layer.get(source.first + step)
            if found is None:
                count, at_line = max(by_layer) + 1, where(one.line)
                raise RecipeError(
                    f"{at_line}{source.model} has the layers 0 to {count - 1}, not {source.first + step}",
                    hint=f"layer_range: [{min(source.first, count - 1)}, {count}]",
                )
            for parts in found:
                t = layers.depth(step, one.layers)
                yield Placed(parts.at(at), number, parts.at(source.first + step), part, t)
            at += 1


def _by_layer(model: str, shapes: Shapes) -> dict[int, list[Layered]]:
    """A model's layer tensors by layer; all must belong to one stack of layers."""
    groups = layers.counts(shapes)
    if len(groups) != 1:
        named = ", ".join(sorted(groups)) or "none"
        raise RecipeError(f"slices need a model with one stack of layers; {model} has: {named}")
    found: dict[int, list[Layered]] = {}
    for key in shapes:
        parts = layers.layered(key)
        if parts is not None:
            found.setdefault(parts.index, []).append(parts)
    return found


def _outside(recipe: Recipe, models: Sequence[Shapes], numbers: Mapping[str, int]) -> Iterator[Placed]:
    """Tensors outside the layers: embeddings from the first slice's model, the rest from the last's."""
    last = len(recipe.slices) - 1
    for part, wanted in ((0, True), (last, False)):
        number = numbers[recipe.slices[part].sources[0].model]
        for key in models[number]:
            if layers.layered(key) is None and layers.before_layers(key) == wanted:
                yield Placed(key, number, key, part, 0.0)
