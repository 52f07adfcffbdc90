"""Which model plays which part: the origin of deltas, and the experts with their own settings.

Relies on the operators' table. Promises: parameters' names, scopes, values and bounds are checked on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpstore.errors import RecipeError
from mpstore.merge.operators.protocol import Operator
from mpstore.merge.operators.table import OPERATORS
from mpstore.merge.recipe_draft import Draft, DraftModel, Given, where
from mpstore.merge.recipe_settings import Setting, parse
from mpstore.suggestions import nearest

Settings = Mapping[str, Setting]


def settings(op: Operator, given: Mapping[str, Given], place: str, whose: str = "") -> dict[str, Setting]:
    """Checked settings. `place`: "model" allows the parameters of one model only, else all are allowed.
    `whose`: how a message begins where no line says it."""
    found = {}
    unknown = [key for key in given if op.parameter(key) is None]
    if unknown:
        at = where(given[unknown[0]].line) or whose
        raise RecipeError(f"{at}{op.name} has no parameter {_listed(unknown)}", hint=_hint(op, unknown))
    for key, one in given.items():
        at = where(one.line) or whose
        parameter = op.parameter(key)
        assert parameter is not None
        if place == "model" and parameter.scope == "global":
            raise RecipeError(
                f"{at}{key} is said once for the whole merge, not for one model",
                hint=f"move {key} to the recipe's own parameters (--set {key}=…)",
            )
        found[key] = parse(parameter, one.value, at)
    return found


def _listed(keys: Sequence[str]) -> str:
    return " and no ".join(map(repr, keys))


def _hint(op: Operator, unknown: Sequence[str]) -> str:
    """What to do about each."""
    return "; ".join(dict.fromkeys(_hint_of(op, key) for key in unknown))


def _hint_of(op: Operator, key: str) -> str:
    known = [one.name for one in op.parameters]
    near = nearest(key, known)
    if near:
        return near
    if key in ("dtype", "out_dtype", "base_model", "merge_method", "tokenizer_source"):
        return f"{key} stands in the recipe itself, not under parameters"
    if key == "seed":
        return "the seed of random masks is said as --seed N"
    elsewhere = [one.name for one in OPERATORS.values() if one.parameter(key) is not None]
    which = f"leave it out: {key} belongs to {', '.join(elsewhere[:3])}; " if elsewhere else ""
    return f"{which}{op.name} has {', '.join(known) or 'no parameters'}"


def base_name(op: Operator, draft: Draft, base: Given | None, first: str) -> tuple[str, bool]:
    """The origin, and whether it was named: the first model stands in where the formula allows it."""
    if base is not None:
        return str(base.value), True
    if op.base_required:
        at = where(draft.operator.line)
        raise RecipeError(f"{at}{op.name} needs a base", hint="add base_model: NAME (or --base NAME)")
    return first, False


def experts(
    op: Operator, draft: Draft, params: Settings, base: str
) -> tuple[list[DraftModel], tuple[str, ...]]:
    """The models that are merged: without the base, unless the operator counts it among them."""
    listed = list(draft.models)
    absent = base not in [one.model for one in listed]
    if draft.base is None:
        return listed, ()
    if op.base_counts == "listed":
        if draft.lenient or not absent or not said_for_all(op, params):
            return listed, ()
        note = f"{where(draft.base.line)}{base} counts as one of the models, with the weight of all of them"
        return [*listed, DraftModel(base, {})], (note,)
    if op.base_counts == "always":
        wanted = params.get("count_base", not draft.lenient)
        return ([*listed, DraftModel(base, {})] if absent and wanted else listed), ()
    notes = []
    for one in listed:
        if one.model == base and one.params:
            settings(op, one.params, "model")
            notes.append(f"{where(one.line)}parameters of the base have no effect with {op.name}")
    return [one for one in listed if one.model != base], tuple(notes)


def said_for_all(op: Operator, params: Settings) -> set[str]:
    """What the models must have and the recipe says for all of them. With `linear` it makes a base that is
    not listed one of the models, as in mergekit; from flags it does not, so there it is said for each."""
    if op.base_counts != "listed":
        return set()
    return {one.name for one in op.parameters if one.scope == "model" and one.required and one.name in params}


def own(op: Operator, one: DraftModel, lenient: bool, params: Settings) -> Settings:
    """An expert's own settings; from flags a required one is filled in with its default."""
    found = settings(op, one.params, "model", f"{one.model}: " if lenient else "")
    if lenient:
        found = {**{name: params[name] for name in said_for_all(op, params)}, **found}
        for parameter in op.parameters:
            wanted = parameter.scope == "model" and parameter.required
            if wanted and parameter.name not in found and parameter.name not in params:
                found[parameter.name] = parameter.default
    return found
