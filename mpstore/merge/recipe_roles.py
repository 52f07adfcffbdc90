"""Which model plays which part: the origin of deltas, and the experts with their own settings.

Relies on the operators' table. Promises: parameters' names, scopes, values and bounds are checked on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    for key, one in given.items():
        at = where(one.line) or whose
        parameter = op.parameter(key)
        if parameter is None:
            raise RecipeError(f"{at}{op.name} has no parameter {key!r}", hint=_hint(op, key))
        if place == "model" and parameter.scope == "global":
            raise RecipeError(
                f"{at}{key} is said once for the whole merge, not for one model",
                hint=f"move {key} to the recipe's own parameters (--set {key}=…)",
            )
        found[key] = parse(parameter, one.value, at)
    return found


def _hint(op: Operator, key: str) -> str:
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
    if draft.base is None or op.base_counts == "listed":
        return listed, ()
    if op.base_counts == "always":
        absent = base not in [one.model for one in listed]
        wanted = params.get("count_base", not draft.lenient)
        return ([*listed, DraftModel(base, {})] if absent and wanted else listed), ()
    notes = []
    for one in listed:
        if one.model == base and one.params:
            settings(op, one.params, "model")
            notes.append(f"{where(one.line)}parameters of the base have no effect with {op.name}")
    return [one for one in listed if one.model != base], tuple(notes)


def own(op: Operator, one: DraftModel, lenient: bool, params: Settings) -> Settings:
    """An expert's own settings; from flags a required one is filled in with its default."""
    found = settings(op, one.params, "model", f"{one.model}: " if lenient else "")
    if lenient:
        for parameter in op.parameters:
            wanted = parameter.scope == "model" and parameter.required
            if wanted and parameter.name not in found and parameter.name not in params:
                found[parameter.name] = parameter.default
    return found
