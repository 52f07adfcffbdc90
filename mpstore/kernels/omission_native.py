"""`omission_numpy` in C.

Relies on kernels.native. Promises: the bits of the reference; releases the interpreter lock.
"""

from __future__ import annotations

import numpy as np

from mpstore.kernels import native
from mpstore.kernels.omission_numpy import Floats, Integers, Numbers, Reading


def certified_drops(reading: Reading, fixed: Floats, rounding: Floats, total: Floats, gains: Floats) -> None:
    """`omission_numpy.certified_drops`."""
    terms = (fixed, rounding, total)
    if reading.steps.size:
        native.library().certified_drops(*_given(reading), *terms, gains, _scratch(reading))


def expected_rises(reading: Reading, cosines: Floats, tensor: Numbers, gains: Floats) -> None:
    """`omission_numpy.expected_rises`."""
    if reading.steps.size:
        native.library().expected_rises(*_given(reading), cosines, tensor, gains, _scratch(reading))


def angled_squares(sizes: Floats, cosines: Floats, tensor: Numbers) -> Floats:
    """`omission_numpy.angled_squares`."""
    squares = np.empty(sizes.shape[1])
    native.library().angled_squares(sizes, cosines, tensor, len(sizes), squares)
    return squares


def unit_costs(unit: Integers, bytes_: Integers, units: int) -> Integers:
    """`omission_numpy.unit_costs`."""
    cost = np.zeros(units, np.int64)
    native.library().unit_costs(unit, bytes_, cost)
    return cost


def _given(reading: Reading) -> tuple[Integers, Floats, int, int, int]:
    return reading.steps, reading.error, reading.steps.shape[1], reading.row_bits, reading.piece


def _scratch(reading: Reading) -> Floats:
    return np.empty((reading.piece + 2) * reading.steps.shape[1])
