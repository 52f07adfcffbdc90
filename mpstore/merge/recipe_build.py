"""From a draft to a recipe: which model plays which part, and whether the operator takes it so.

Relies on the operators' table. Promises: what can be wrong without a look at a checkpoint is said here: the
number of models, parameters' names, scopes, values and bounds, missing weights, the operator's own checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mpstore.errors import RecipeError, UsageError
from mpstore.merge import recipe_roles, recipe_slices, recipe_text
from mpstore.merge.operators.protocol import Operator, Parameter, Value
from mpstore.merge.operators.table import find
from mpstore.merge.recipe_draft import Draft, where
from mpstore.merge.recipe_idle import without_idle
from mpstore.merge.recipe_roles import Settings
from mpstore.merge.recipe_settings import is_constant
from mpstore.merge.recipe_values import Recipe


def build(draft: Draft) -> Recipe:
    """The checked recipe. Raises RecipeError, with the line where there is one."""
    try:
        op = find(str(draft.operator.value))
    except UsageError as error:
        raise RecipeError(where(draft.operator.line) + error.message, hint=error.hint) from None
    draft = without_idle(op, draft)
    params = recipe_roles.settings(op, draft.params, "global")
    recipe = recipe_slices.arrange(op, draft, params) if draft.slices else _from_models(op, draft, params)
    recipe = replace(recipe, notes=(*draft.notes, *recipe.notes), lines=draft.lines)
    _check_count(op, recipe, draft)
    _check_tokenizer(recipe, draft)
    recipe = _vectors(op, recipe)
    _check_required(op, recipe, draft.lenient)
    if op.check is not None:
        _check_constants(op, recipe)
    return replace(recipe, text=recipe_text.canonical(recipe))


def _from_models(op: Operator, draft: Draft, params: Settings) -> Recipe:
    if not draft.models:
        raise RecipeError("there is no model to merge", hint="add --expert NAME, or models to the recipe")
    names = [one.model for one in draft.models]
    for i, one in enumerate(draft.models):
        if one.model in names[:i]:
            raise RecipeError(f"{where(one.line)}{one.model} is listed twice", hint="name each model once")
    base, given = recipe_roles.base_name(op, draft, draft.base, names[0])
    if op.name == "passthrough":
        return _single(op, draft, params, base)
    taken, notes = recipe_roles.experts(op, draft, params, base)
    shared = dict(params)
    if draft.lenient:
        for name in recipe_roles.said_for_all(op, params):  # each model has it now
            del shared[name]
    if op.base_counts == "always" and base not in [one.model for one in taken]:
        shared["count_base"] = False
    return Recipe(
        operator=op.name,
        base=base,
        experts=tuple(one.model for one in taken),
        expert_params=tuple(recipe_roles.own(op, one, draft.lenient, params) for one in taken),
        params=shared,
        out_dtype=draft.out_dtype,
        base_given=given,
        notes=notes,
    )


def _single(op: Operator, draft: Draft, params: Settings, base: str) -> Recipe:
    """Passthrough of one model: it is its own base, so nothing is read for it."""
    others = [one for one in draft.models if draft.base is None or one.model != base] or list(draft.models)
    if len(others) > 1:
        raise RecipeError(
            f"passthrough takes one model, not {len(others)}", hint="stack layers of several with slices"
        )
    own = recipe_roles.settings(op, others[0].params, "model")
    return Recipe(
        operator=op.name,
        base=others[0].model,
        experts=(),
        expert_params=(),
        params={**params, **own},
        out_dtype=draft.out_dtype,
        base_given=False,
        notes=() if others[0].model == base else (f"passthrough does not look at the base {base}",),
    )


def _check_count(op: Operator, recipe: Recipe, draft: Draft) -> None:
    fewest, most = op.models
    count = len(recipe.experts)
    if count >= fewest and (most is None or count <= most):
        return
    wanted = (
        f"{fewest}" if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
    )
    beside = " beside the base" if recipe.base_given else ""
    line = draft.models[0].line if draft.models else draft.slices[0].line
    raise RecipeError(f"{where(line)}{op.name} takes {wanted} model(s){beside}, not {count}")


def _check_tokenizer(recipe: Recipe, draft: Draft) -> None:
    """The base's tokenizer files are what a merge keeps; anything else is said not to be supported."""
    wanted = None if draft.tokenizer is None else draft.tokenizer.value
    if isinstance(wanted, str):
        wanted = wanted.removeprefix("model:")  # how mergekit's first versions said it
    if draft.tokenizer is None or wanted in ("base", recipe.base):
        return
    hint = f"the output has the tokenizer of {recipe.base}: tokenizer_source: base"
    if wanted == "union":
        hint += "; where all models have its vocabulary, so has their union"
    raise RecipeError(f"{where(draft.tokenizer.line)}a tokenizer from {wanted!r} is not supported", hint=hint)


def _vectors(op: Operator, recipe: Recipe) -> Recipe:
    """Without a base the models themselves are interpolated, not deltas from the first of them."""
    if op.parameter("vectors") is None or recipe.base_given:
        return recipe
    if recipe.params.get("vectors") == "deltas":
        raise RecipeError(f"{op.name} on deltas needs a base", hint="add base_model: NAME (or --base NAME)")
    return replace(recipe, params={**recipe.params, "vectors": "weights"})


def scopes(recipe: Recipe, expert: int | None) -> list[list[Settings]]:
    """Per slice (one list where there are none), the settings that hold for an expert, strongest first."""
    own = [recipe.expert_params[expert]] if expert is not None and not recipe.slices else []
    if not recipe.slices:
        return [[*own, recipe.params]]
    found = []
    for part in recipe.slices:
        name = None if expert is None else recipe.experts[expert]
        sources = [one.params for one in part.sources if recipe.stacked or one.model == name]
        found.append([*sources, part.params, recipe.params])
    return found


def _check_required(op: Operator, recipe: Recipe, flags: bool) -> None:
    for parameter in op.parameters:
        if not parameter.required:
            continue
        whose: list[int | None] = list(range(len(recipe.experts))) if parameter.scope == "model" else [None]
        for expert in whose:
            for settings_here in scopes(recipe, expert):
                if not any(parameter.name in one for one in settings_here):
                    _missing(op, parameter, None if expert is None else recipe.experts[expert], recipe, flags)


def _missing(op: Operator, parameter: Parameter, model: str | None, recipe: Recipe, flags: bool) -> None:
    at = "" if model is None else where(recipe.lines.get(model))
    whose = "" if model is None else f" for {model}"
    said = f"add parameters: {{{parameter.name}: …}}"
    if flags:
        said = f"add --set {parameter.name}=…" if model is None else f"say {model}:{parameter.name}=…"
    raise RecipeError(f"{at}{op.name} needs a {parameter.name}{whose}", hint=f"{said} ({parameter.doc})")


def defaults(op: Operator, scope: str) -> dict[str, Value]:
    """Default values of the parameters of one model ("model") or of the whole merge ("global")."""
    model = scope == "model"
    return {one.name: one.default for one in op.parameters if (one.scope == "model") == model}


def _check_constants(op: Operator, recipe: Recipe) -> None:
    """The operator's own check, as far as constant settings go; `resolve` repeats it for each tensor."""
    for index in range(len(scopes(recipe, None))):
        shared = _constants(defaults(op, "global"), scopes(recipe, None)[index])
        experts = [
            _constants(defaults(op, "model"), scopes(recipe, i)[index]) for i in range(len(recipe.experts))
        ]
        if shared is not None and all(one is not None for one in experts):
            checked(recipe, shared, tuple(one for one in experts if one is not None))


def checked(
    recipe: Recipe, shared: Mapping[str, Value], experts: tuple[Mapping[str, Value], ...], whose: str = ""
) -> None:
    """The operator's own check of values that belong together; what it refuses is the recipe's fault. Said is
    the line of the model that it refuses by itself, else of the first; `whose`: of which tensor."""
    check = recipe.method.check
    assert check is not None, "the caller looked"

    def refusal(some: tuple[Mapping[str, Value], ...]) -> UsageError | None:
        try:
            check(shared, some)
        except UsageError as error:
            return error
        return None

    error = refusal(experts)
    if error is not None:
        alone = (name for name, one in zip(recipe.experts, experts, strict=True) if refusal((one,)))
        line = recipe.lines.get(next(alone, recipe.experts[0]))
        raise RecipeError(f"{where(line)}{error.message}{whose}", hint=error.hint)


def _constants(values: dict[str, Value], settings_here: list[Settings]) -> dict[str, Value] | None:
    """Values by name; None where one of them depends on the tensor."""
    for one in reversed(settings_here):
        for key, setting in one.items():
            if key in values:
                if not is_constant(setting):
                    return None
                values[key] = setting
    return values
