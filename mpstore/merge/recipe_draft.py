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


def where(line: int | None) -> str:
    """How an error message begins."""
    return "" if line is None else f"line {line}: "


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
    """

    operator: Given
    base: Given | None
    models: tuple[DraftModel, ...] = ()
    slices: tuple[DraftSlice, ...] = ()
    params: Mapping[str, Given] = field(default_factory=dict)
    out_dtype: str | None = None
    lenient: bool = False
