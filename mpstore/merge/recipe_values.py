"""What a recipe is once it has been checked: models with their parts, settings, slices.

Relies on the operators' table. Promises: frozen plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mpstore.merge.operators.protocol import Operator
from mpstore.merge.operators.table import find
from mpstore.merge.recipe_settings import Setting


@dataclass(frozen=True)
class Source:
    """A model's layers [first, end) in a slice, with parameters that hold there."""

    model: str
    first: int
    end: int
    params: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """A run of the output's layers: as many as each of its sources has."""

    sources: tuple[Source, ...]
    params: Mapping[str, Setting] = field(default_factory=dict)
    line: int | None = field(default=None, compare=False)

    @property
    def layers(self) -> int:
        return self.sources[0].end - self.sources[0].first


@dataclass(frozen=True)
class Recipe:
    """What to merge. Models are named as the user names them: a revision, a directory, or hf://….

    base: what deltas are taken from, and whose config, tokenizer and names the output has. `base_given`:
    the user named it; otherwise it is the first model. experts: in the user's order; the base is one of
    them where it counts as a model (linear). expert_params[i], params: settings of expert i and of all,
    slices: empty, or the output's layers in order (`stacked`: passthrough, each from one source).
    out_dtype: safetensors name, None: the base's. notes: remarks for the user. text: canonical YAML.
    lines: where the file names each model, or a parameter of the merge, for messages.
    """

    operator: str
    base: str
    experts: tuple[str, ...]
    expert_params: tuple[Mapping[str, Setting], ...]
    params: Mapping[str, Setting]
    slices: tuple[Slice, ...] = ()
    out_dtype: str | None = None
    base_given: bool = True
    notes: tuple[str, ...] = ()
    text: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def models(self) -> tuple[str, ...]:
        """Base and experts, each once, base first."""
        return tuple(dict.fromkeys((self.base, *self.experts)))

    @property
    def stacked(self) -> bool:
        """Whether the output's layers are put together from several models' layers."""
        return self.operator == "passthrough" and bool(self.slices)

    @property
    def method(self) -> Operator:
        """The operator itself."""
        return find(self.operator)
