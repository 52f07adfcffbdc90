"""Running a kernel family in every way it can run here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpstore import kernels

COMPILED = [mode for mode in kernels.modes() if mode != "numpy"]


def sides(family: str) -> Iterator[Any]:
    """The family's module, once for each mode: the numpy reference first, then the compiled variants."""
    try:
        for mode in kernels.modes():
            kernels.select(mode)
            yield kernels.pick(family)
    finally:
        kernels.select("auto")
