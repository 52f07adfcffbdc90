"""From a recipe's settings to each tensor's parameters: gradients, filters, slices.

Relies on recipe and layers. Promises: pure; mergekit's rules: a model's setting before the slice's before
the recipe's; t = layer / (layers - 1) within the slice, 0 for tensors outside the layers. What does not fit
the checkpoints' tensors is a UsageError here, before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpstore.errors import RecipeError
from mpstore.merge import layers, recipe_build, stack
from mpstore.merge.operators.protocol import ExpertContext, Operator, Parameter, TensorContext, Value
from mpstore.merge.recipe import Recipe
from mpstore.merge.recipe_draft import where
from mpstore.merge.recipe_settings import Conditions, Setting, evaluate, is_constant, number

Shape = tuple[int, ...]
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Resolved:
    """Parameters as plans keep them.

    params: the operator's global ones, experts[i]: expert i's, defaults filled in. tensors: key ->
    {"global": {...}, "experts": [{...}, ...]} with what differs, only for tensors where something does.
    outputs: for stacks, output key -> {"model": index into [base, *experts], "key": source key}.
    notes: remarks for the user.
    """

    params: Values
    experts: tuple[Values, ...]
    tensors: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands: its slice, its depth t there, and the name filters look at."""

    part: int
    t: float
    name: str


@dataclass(frozen=True)
class _Word:
    """One parameter of one expert (None: of the merge): per slice the settings that hold, strongest first."""

    parameter: Parameter
    expert: int | None
    chains: tuple[tuple[Setting, ...], ...]

    @property
    def varies(self) -> bool:
        """Whether it may differ between tensors."""
        constant = all(len(chain) <= 1 and all(map(is_constant, chain)) for chain in self.chains)
        return not constant or len(set(self.chains)) > 1

    def value(self, place: _Place) -> Value | None:
        """The value at a place; None where no setting says anything."""
        for setting in self.chains[place.part]:
            found = evaluate(setting, place.name, place.t)
            if found is not None:
                return number(self.parameter, found, "") if self.parameter.kind == "integer" else found
        return None


def resolve(
    recipe: Recipe, shapes: Mapping[str, Shape], others: Sequence[Mapping[str, Shape]] = ()
) -> Resolved:
    """Parameters for the tensors of the base (`shapes`); a stack needs the experts' (`others`) as well."""
    op = recipe.method
    shared = _words(op, recipe, None)
    own = [_words(op, recipe, i) for i in range(len(recipe.experts))]
    defaults = Resolved(
        {word.parameter.name: _default(word) for word in shared},
        tuple({word.parameter.name: _default(word) for word in words} for words in own),
    )
    outputs: dict[str, Any] = {}
    if recipe.stacked:
        outputs, places = _stacked(recipe, [shapes, *others])
    else:
        places = _places(recipe, shapes)
    varying = [word for words in (shared, *own) for word in words if word.varies]
    tensors = _overrides(op, recipe, defaults, varying, places)
    return Resolved(defaults.params, defaults.experts, tensors, outputs, tuple(_unused(varying, places)))


def _unused(words: Sequence[_Word], places: Mapping[str, _Place]) -> Iterator[str]:
    """Filters that are part of no tensor's name: a slip of the pen, most often."""
    wanted = {
        condition.filter: word.parameter.name
        for word in words
        for chain in word.chains
        for setting in chain
        if isinstance(setting, Conditions)
        for condition in setting.items
        if condition.filter is not None
    }
    for part, parameter in wanted.items():
        if not any(part in place.name for place in places.values()):
            yield f"the filter {part!r} of {parameter} is part of no tensor's name"


def _words(op: Operator, recipe: Recipe, expert: int | None) -> list[_Word]:
    parts = recipe_build.scopes(recipe, expert)
    return [
        _Word(parameter, expert, tuple(_chain(parameter.name, settings) for settings in parts))
        for parameter in op.parameters
        if (parameter.scope == "model") == (expert is not None)
    ]


def _chain(name: str, settings: Sequence[Mapping[str, Setting]]) -> tuple[Setting, ...]:
    """The settings of one parameter, strongest first, up to the first that always says something."""
    found: list[Setting] = []
    for one in settings:
        if name in one:
            found.append(one[name])
            if is_constant(one[name]):
                break
    return tuple(found)


def _default(word: _Word) -> Value:
    """What the plan notes as the usual value: that of the first slice's beginning, else the operator's."""
    found = word.value(_Place(0, 0.0, ""))
    return word.parameter.default if found is None else found


def _overrides(
    op: Operator, recipe: Recipe, defaults: Resolved, varying: list[_Word], places: Mapping[str, _Place]
) -> dict[str, Any]:
    """What differs from the defaults, tensor by tensor, each combination checked by the operator once."""
    if not varying:
        return {}
    tensors: dict[str, Any] = {}
    checked: set[str] = set()
    for key, place in places.items():
        shared: dict[str, Value] = {}
        own: list[dict[str, Value]] = [{} for _ in recipe.experts]
        for word in varying:
            value = _value(recipe, word, key, place)
            usual = defaults.params if word.expert is None else defaults.experts[word.expert]
            if value != usual[word.parameter.name]:
                (shared if word.expert is None else own[word.expert])[word.parameter.name] = value
        if shared or any(own):
            tensors[key] = {"global": shared, "experts": own}
        if op.check is not None and repr((shared, own)) not in checked:
            checked.add(repr((shared, own)))
            together = [{**usual, **mine} for usual, mine in zip(defaults.experts, own, strict=True)]
            recipe_build.checked(recipe, {**defaults.params, **shared}, tuple(together), f" (tensor {key})")
    return tensors


def _value(recipe: Recipe, word: _Word, key: str, place: _Place) -> Value:
    found = word.value(place)
    if found is None and word.parameter.required:
        name = word.parameter.name if word.expert is None else recipe.experts[word.expert]
        whose = "" if word.expert is None else f" of {name}"
        at = where(recipe.lines.get(name))
        raise RecipeError(
            f"{at}no condition of {word.parameter.name}{whose} fits the tensor {key}",
            hint="end the list with a value that has no filter",
        )
    return word.parameter.default if found is None else found


def _places(recipe: Recipe, shapes: Mapping[str, Shape]) -> dict[str, _Place]:
    """Slice and depth of every tensor of a plain merge."""
    groups = layers.counts(shapes)
    if recipe.slices:
        _check_range(recipe, groups)
    places = {}
    for key in shapes:
        parts = layers.layered(key)
        if parts is None:
            last = max(len(recipe.slices) - 1, 0)
            places[key] = _Place(0 if layers.before_layers(key) else last, 0.0, key)
        elif not recipe.slices:
            places[key] = _Place(0, layers.depth(parts.index, groups[parts.prefix]), key)
        else:
            part, at = _slice_of(recipe, parts.index)
            places[key] = _Place(part, layers.depth(at, recipe.slices[part].layers), key)
    return places


def _check_range(recipe: Recipe, groups: Mapping[str, int]) -> None:
    """Slices of a merge cover the base's layers, all of them."""
    end, at = recipe.slices[-1].sources[0].end, where(recipe.slices[-1].line)
    if len(groups) != 1:
        named = ", ".join(sorted(groups)) or "none"
        raise RecipeError(f"{at}slices need a model with one stack of layers; {recipe.base} has: {named}")
    count = next(iter(groups.values()))
    if end != count:
        raise RecipeError(
            f"{at}the slices cover the layers 0 to {end - 1}, but {recipe.base} has {count}",
            hint=f"{recipe.operator} merges the full range: layer_range: [0, {count}]",
        )


def _slice_of(recipe: Recipe, index: int) -> tuple[int, int]:
    """The slice a layer lies in, and its place there."""
    for part, one in enumerate(recipe.slices):
        if index < one.layers:
            return part, index
        index -= one.layers
    raise AssertionError("the range was checked")


def _stacked(
    recipe: Recipe, models: Sequence[Mapping[str, Shape]]
) -> tuple[dict[str, Any], dict[str, _Place]]:
    """Where each tensor of a stack comes from, and the place its parameters are looked up at."""
    outputs: dict[str, Any] = {}
    places: dict[str, _Place] = {}
    for one in stack.arrange(recipe, models):
        outputs[one.key] = {"model": one.model, "key": one.source}
        places[one.key] = _Place(one.part, one.t, one.source)
    return outputs, places


def contexts(
    resolved: Resolved, seed: int, expert_keys: Sequence[bytes], shapes: Mapping[str, Shape]
) -> dict[str, TensorContext]:
    """What the operator is told of every tensor. expert_keys: what masks and sums hang on, one an expert."""
    found = {}
    plain = tuple(ExpertContext(key, own) for key, own in zip(expert_keys, resolved.experts, strict=True))
    for name, shape in shapes.items():
        override = resolved.tensors.get(name)
        experts, params = plain, resolved.params
        if override is not None:
            params = {**params, **override["global"]}
            experts = tuple(
                ExpertContext(one.key, {**one.params, **more})
                for one, more in zip(plain, override["experts"], strict=True)
            )
        found[name] = TensorContext(name, shape, math.prod(shape), seed, params, experts)
    return found
