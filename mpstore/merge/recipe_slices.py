"""Recipes with slices: the same layers of every model, part by part, or a stack of layers (passthrough).

Relies on recipe_roles' checks. Promises: what comes out is either a full range in order, the same for every
source, or a stack of single sources; anything else is said not to be supported.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpstore.errors import RecipeError
from mpstore.merge import recipe_roles
from mpstore.merge.operators.protocol import Operator
from mpstore.merge.recipe_draft import Draft, DraftSlice, Given, where
from mpstore.merge.recipe_settings import Setting
from mpstore.merge.recipe_values import Recipe, Slice, Source


def arrange(op: Operator, draft: Draft, params: Mapping[str, Setting]) -> Recipe:
    """The recipe of a draft with slices, models' parts not yet counted."""
    named = _base(draft)
    first = draft.slices[0].sources[0].model
    base, given = recipe_roles.base_name(op, draft, named, first)
    slices = tuple(_slice(op, one) for one in draft.slices)
    stack = op.name == "passthrough"
    experts = _stacked(draft, base) if stack else _merged(op, draft, base, given)
    return Recipe(
        operator=op.name,
        base=base,
        experts=experts,
        expert_params=tuple({} for _ in experts),
        params=dict(params),
        slices=slices,
        out_dtype=draft.out_dtype,
        base_given=given,
    )


def _base(draft: Draft) -> Given | None:
    """The one base: a slice may repeat it, or be the one to say it, but not have another."""
    named = draft.base
    for one in draft.slices:
        if one.base is not None:
            if named is not None and one.base.value != named.value:
                raise RecipeError(
                    f"{where(one.base.line)}a base_model of its own for a slice is not supported",
                    hint=f"the recipe's base is {named.value}",
                )
            named = one.base
    return named


def _slice(op: Operator, one: DraftSlice) -> Slice:
    sources = []
    for source in one.sources:
        assert source.layers is not None, "the schema has it"
        own = recipe_roles.settings(op, source.params, "model")
        sources.append(Source(source.model, *source.layers, own))
    lengths = {source.end - source.first for source in sources}
    if len(lengths) > 1:
        raise RecipeError(f"{where(one.line)}all sources of a slice have the same number of layers")
    return Slice(tuple(sources), recipe_roles.settings(op, one.params, "global"), one.line)


def _stacked(draft: Draft, base: str) -> tuple[str, ...]:
    """The other models of a stack, in order of appearance."""
    names: dict[str, None] = {}
    for one in draft.slices:
        if len(one.sources) != 1:
            raise RecipeError(
                f"{where(one.line)}a slice of a passthrough stack has one source, not {len(one.sources)}"
            )
        names[one.sources[0].model] = None
    return tuple(name for name in names if name != base)


def _merged(op: Operator, draft: Draft, base: str, given: bool) -> tuple[str, ...]:
    """The experts of slices that cover all layers once, in order."""
    expected, at = None, 0
    for one in draft.slices:
        names = [source.model for source in one.sources]
        if len(set(names)) < len(names):
            raise RecipeError(f"{where(one.line)}a model is listed twice in a slice")
        for source in one.sources:
            assert source.layers is not None, "the schema has it"
            if source.layers[0] != at:
                raise RecipeError(
                    f"{where(source.line)}layer_range begins at {source.layers[0]}, expected {at}: {op.name} "
                    "merges equal layers, each once and in order",
                    hint="stacks of other layers are for merge_method: passthrough",
                )
        at = one.sources[0].layers[1] if one.sources[0].layers else at
        counted = given and op.base_counts == "never"
        experts = [name for name in names if not (counted and name == base)]
        if expected is None:
            expected = experts
        elif sorted(experts) != sorted(expected):
            raise RecipeError(
                f"{where(one.line)}other models than in the first slice: not supported",
                hint=f"list {', '.join(expected)} in every slice; stacks, of one source a slice, are for "
                "merge_method: passthrough",
            )
    return tuple(expected or ())
