"""A recipe's canonical YAML: what plan and commit keep, and what `mp merge` would read again.

Relies on PyYAML. Promises: reading the text gives the same recipe; equal recipes have equal texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mpstore.merge.recipe_settings import Setting, plain
from mpstore.merge.recipe_values import Recipe
from mpstore.merge.recipe_yaml import DTYPES


def canonical(recipe: Recipe) -> str:
    """The YAML text: keys in one order, parameters sorted, numbers as Python writes them."""
    whole: dict[str, Any] = {"merge_method": recipe.operator}
    if recipe.base_given:
        whole["base_model"] = recipe.base
    if recipe.slices:
        whole["slices"] = [
            {
                "sources": [
                    {"model": one.model, "layer_range": [one.first, one.end], **_params(one.params)}
                    for one in part.sources
                ],
                **_params(part.params),
            }
            for part in recipe.slices
        ]
    else:
        pairs = zip(recipe.experts or (recipe.base,), recipe.expert_params or ({},), strict=True)
        whole["models"] = [{"model": name, **_params(params)} for name, params in pairs]
    whole.update(_params(recipe.params))
    if recipe.out_dtype is not None:
        whole["out_dtype"] = next(word for word, name in DTYPES.items() if name == recipe.out_dtype)
    return yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1 << 20)


def _params(params: Mapping[str, Setting]) -> dict[str, Any]:
    return {"parameters": {key: plain(params[key]) for key in sorted(params)}} if params else {}
