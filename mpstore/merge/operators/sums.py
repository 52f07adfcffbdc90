"""Sums over a tensor that come out the same on every machine.

Relies on numpy's elementwise addition alone (its own reductions may pair terms as the processor likes).
Promises: float64; chunks of 64 in element order, their sums added exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from mpstore.merge.operators.protocol import Array, Block

_CHUNK = 64
_BATCH_ELEMENTS = 1 << 18


def _total(values: Array, of: Callable[[slice], npt.NDArray[np.float64]]) -> float:
    """Sum of `of` over float32 `values` of shape (n,), window after window; NaN where a term is none."""
    parts: list[float] = []
    for at in range(0, values.size, _BATCH_ELEMENTS):
        wide = of(slice(at, at + _BATCH_ELEMENTS))
        wide = np.concatenate([wide, np.zeros(-wide.size % _CHUNK)]).reshape(-1, _CHUNK)
        sums = wide[:, 0].copy()
        for column in range(1, _CHUNK):
            sums += wide[:, column]
        parts.extend(sums.tolist())
    return math.fsum(parts) if np.isfinite(parts).all() else math.nan


def magnitudes(values: Array, kept: Callable[[slice], npt.NDArray[np.bool_]] | None = None) -> float:
    """Σ|x|, of those that `kept` says of a window of offsets, or of all."""

    def part(window: slice) -> npt.NDArray[np.float64]:
        wide = np.abs(values[window].astype(np.float64))
        return wide if kept is None else np.where(kept(window), wide, 0.0)

    return _total(values, part)


def squares(values: Array) -> float:
    """Σx²."""
    return _total(values, lambda window: np.square(values[window].astype(np.float64)))


def by_length(block: Block) -> list[Array]:
    """The deltas that are there, shortest first, of equals by their bytes: no recipe shows in that order."""
    found = [(squares(delta), delta) for delta in block.deltas if delta is not None]
    lengths = [length for length, _ in found]

    def place(one: tuple[float, Array]) -> tuple[bool, float, bytes]:
        length, delta = one
        alone = lengths.count(length) == 1
        return math.isnan(length), length, b"" if alone else blake3(delta.tobytes()).digest()

    return [delta for _, delta in sorted(found, key=place)]


def l1_ratio(before: float, after: float) -> float:
    """before / after; 1 where either is below 1e-7 (mergekit's guard) or no number."""
    return before / after if before >= 1e-7 and after >= 1e-7 else 1.0
