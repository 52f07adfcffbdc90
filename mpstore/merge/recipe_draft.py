"""A recipe as it was written, before anything is known of its operator: words, values and their lines.

Relies on nothing. Promises: plain values; `line` is None where it came from flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Given:
    """A value and the line it stands on."""

    value: Any
    line: int | None = None


_LINE = "line "


def where(line: int | None) -> str:
    """How an error message begins."""
    return "" if line is None else f"{_LINE}{line}: "


def is_placed(message: str) -> bool:
    """Whether a message begins with a line."""
    return message.startswith(_LINE)


def in_file(message: str, file: str) -> str:
    """A message about a recipe, with the name of its file."""
    return f"{file}, {message}" if is_placed(message) else f"{file}: {message}"


@dataclass(frozen=True)
class DraftModel:
    """A model with its own parameters; `layers` is the half-open range of a slice's source."""

    model: str
    params: Mapping[str, Given]
    line: int | None = None
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class DraftSlice:
    """One entry of `slices`."""

    sources: tuple[DraftModel, ...]
    params: Mapping[str, Given]
    base: Given | None = None
    line: int | None = None


@dataclass(frozen=True)
class Draft:
    """What a recipe or the flags say. `models` and `slices` exclude each other.

    `lenient`: from flags, where a missing weight is 1 and the base is only what deltas are taken from.
    `tokenizer`: whose files are wanted, if that is said; `idle`: see `recipe_idle`; `notes`: for the user.
    """

    operator: Given
    base: Given | None
    models: tuple[DraftModel, ...] = ()
    slices: tuple[DraftSlice, ...] = ()
    params: Mapping[str, Given] = field(default_factory=dict)
    out_dtype: str | None = None
    lenient: bool = False
    tokenizer: Given | None = None
    idle: Mapping[str, Given] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> dict[str, int]:
        """Where each model is first named, and each of the merge's own parameters."""
        named = [(key, one.line) for key, one in self.params.items()]
        named += [(one.model, one.line) for one in self.models]
        named += [(source.model, source.line) for one in self.slices for source in one.sources]
        if self.base is not None:
            named.append((str(self.base.value), self.base.line))
        return {model: line for model, line in reversed(named) if line is not None}
