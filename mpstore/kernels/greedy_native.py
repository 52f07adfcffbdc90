"""`greedy_numpy` in C.

Relies on kernels.native. Promises: the bits of the reference; releases the interpreter lock.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mpstore.kernels import native
from mpstore.kernels.greedy_numpy import Choices, Floats, Integers, Places

_LANES: Final = 16
_NOBODY: Final = (np.zeros(0, np.int64), np.zeros(0))


def towards(error: Floats, similarity: Floats, tensor: Integers, out: Floats) -> None:
    """`greedy_numpy.towards`."""
    native.library().towards(error, similarity, tensor, len(error), out)


def walk(choices: Choices, drop: Floats, square: Floats, path: Places, paid: Floats, norms: Floats) -> None:
    """`greedy_numpy.walk`."""
    one = choices
    bases = _NOBODY if one.number is None or one.shared is None else (one.number, one.shared)
    given = (one.member, one.error, one.cost, one.similarity, one.tensor, drop, square, *bases)
    scratch = np.empty(5 * len(one.error) * _LANES)
    native.library().walk(*given, len(one.error), path, paid, norms, scratch)


def hull(path: Places, gain: Floats, cost: Floats, segment: Places, segments: Integers) -> Floats:
    """`greedy_numpy.hull`."""
    density, room = np.empty(path.size), (np.empty(2 * len(path)), np.empty(len(path), np.int64))
    made = native.library().hull(path, gain, cost, segment, density, segments, *room)
    return density[:made]


def enter_units(
    path: Places, segment: Places, starts: Integers, rank: Integers, blocks: Integers, unit: Integers
) -> None:
    """`greedy_numpy.enter_units`."""
    native.library().enter_units(path, segment, starts, rank, blocks, len(unit), unit)
