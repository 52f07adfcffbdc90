"""config.json of a stack: how many layers there are, and what it says of each of them.

Relies on layers. Promises: pure; a list that has an entry for each of the base's layers gets one for each of
the output's, taken from the model that the layer comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mpstore.merge import layers

_COUNTS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_OF_LAYERS: Final = ("layer", "block")

Config = Mapping[str, Any]


def changes(configs: Sequence[Config], outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the base's config is to say instead. configs: of [base, *experts], empty where there is none;
    outputs: output tensor -> {"model": index into them, "key": source tensor}."""
    counted = layers.counts(outputs)
    if len(counted) != 1:
        return {}
    count = next(iter(counted.values()))
    places = _places(outputs)
    found: dict[str, Any] = dict.fromkeys(_COUNTS, count)
    for key in configs[0]:
        taken = [_entries(configs[model], key)[layer : layer + 1] for model, layer in places]
        if _entries(configs[0], key) and len(taken) == count and all(taken):
            found[key] = [entry for one in taken for entry in one]
    return found


def _places(outputs: Mapping[str, Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Model and layer that each of the output's layers comes from, in order."""
    found: dict[int, tuple[int, int]] = {}
    for key, at in outputs.items():
        target, source = layers.layered(key), layers.layered(str(at["key"]))
        if target is not None and source is not None:
            found[target.index] = int(at["model"]), source.index
    return [found[layer] for layer in sorted(found)]


def _entries(config: Config, key: str) -> Sequence[Any]:
    """What a config says layer by layer under `key` (`layer_types`, `layers_block_type`, …), nothing where
    that is something else: a list of layers' numbers, say, or one of another length."""
    value = config.get(key)
    if not isinstance(value, list) or not any(word in key for word in _OF_LAYERS):
        return ()
    if len(value) not in [config.get(name) for name in _COUNTS]:
        return ()
    numbers = all(type(one) is int for one in value)
    return () if numbers and not set(value) <= {0, 1} else value  # 0 and 1: as in `no_rope_layers`
