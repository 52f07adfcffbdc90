"""Which layer a tensor belongs to, read from its name.

Relies on nothing. Promises: pure; knows `layers.N.`, `layer.N.`, `h.N.`, `blocks.N.`, `block.N.` and
`resblocks.N.`; of several numbers in a name the first after such a word is the layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_LAYER: Final = re.compile(r"(?:^|[./])(?:layers|layer|h|blocks|block|resblocks)\.(\d{1,6})(?=\.)")
_BEFORE_LAYERS: Final = re.compile(r"embed|wte|wpe|rotary|stem")


@dataclass(frozen=True)
class Layered:
    """A layer tensor's name in three parts: prefix + index + rest."""

    prefix: str
    index: int
    rest: str

    def at(self, index: int) -> str:
        """The name of the same tensor in another layer."""
        return f"{self.prefix}{index}{self.rest}"


def layered(name: str) -> Layered | None:
    """The parts of a layer tensor's name; None for tensors outside the layers.

    >>> layered("model.layers.12.mlp.up_proj.weight").at(3)
    'model.layers.3.mlp.up_proj.weight'
    """
    match = _LAYER.search(name)
    if match is None:
        return None
    return Layered(name[: match.start(1)], int(match[1]), name[match.end(1) :])


def counts(names: Iterable[str]) -> Mapping[str, int]:
    """Layers per prefix: one more than the highest index."""
    found: dict[str, int] = {}
    for name in names:
        parts = layered(name)
        if parts is not None:
            found[parts.prefix] = max(found.get(parts.prefix, 0), parts.index + 1)
    return found


def before_layers(name: str) -> bool:
    """Whether a tensor outside the layers comes before them (embeddings) rather than after (norm, head)."""
    return _BEFORE_LAYERS.search(name) is not None


def depth(index: int, count: int) -> float:
    """Relative depth t of layer `index` of `count`: 0 the first, 1 the last; 1 where there is but one."""
    return index / (count - 1) if count > 1 else 1.0
