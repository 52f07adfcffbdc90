"""Keys that have no place where they stand: what mergekit has and this does not, and what was probably meant.

Relies on suggestions. Promises: pure; an error names the key, and says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mpstore.errors import RecipeError
from mpstore.suggestions import nearest

_WHOLE = "models or slices say it for the whole checkpoint; filters, for the tensors of a module"
_MIXTURE = "this is a recipe of mergekit-moe; merge_method with models or slices makes no experts"
_UNSUPPORTED: Final[Mapping[str, tuple[str, str | None]]] = {
    "modules": ("merging module by module is not supported", _WHOLE),
    "chat_template": ("setting a chat template is not supported: the base's files are kept", None),
    "residual_weight": ("not supported", None),
    "revision": ("a revision belongs to the model's name: hf://ORG/NAME@REVISION, or a commit's id", None),
    "gate_mode": ("mixtures of experts are not supported", _MIXTURE),
    "experts": ("mixtures of experts are not supported", _MIXTURE),
}
"""What mergekit has and this does not: the message, and the hint where it is not to leave the key out."""

_PARAMETERS: Final = ("weight", "density", "t", "scale", "normalize", "lambda", "gamma", "epsilon", "rescale")


def is_known(key: str) -> bool:
    """Whether mergekit has such a key, and this does not."""
    return key in _UNSUPPORTED


def error(key: str, what: str, known: tuple[str, ...], at: str) -> RecipeError:
    """What to say of `key` in `what`, which has the keys `known`. `at`: how the message begins."""
    if key in _UNSUPPORTED:
        said, hint = _UNSUPPORTED[key]
        return RecipeError(f"{at}{key}: {said}", hint=hint or f"leave {key} out")
    return RecipeError(f"{at}unknown key {key!r} in {what}", hint=_hint(key, known))


def _hint(key: str, known: tuple[str, ...]) -> str:
    if key in _PARAMETERS and "parameters" in known:
        return f"{key} stands under parameters"
    if key == "layer_range" or (key == "model" and "sources" in known):
        return f"{key} stands under slices, in a list of sources"
    return nearest(key, known) or "the keys are " + ", ".join(known)
