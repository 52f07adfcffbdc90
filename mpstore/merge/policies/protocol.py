"""What a policy is: a pure function from the problem to an order of reading.

Relies on numpy and problem. Promises: nothing here reads, looks at a clock or draws unseeded randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpstore.merge.problem import Problem


@dataclass(frozen=True)
class Policy:
    """order(problem) -> unit (K, N) int64: 0 is read first, equal numbers are read together, -1 where there
    is no candidate; no gaps. The blocks of a tensor that is all or nothing for an expert share one unit.
    `fills`: see `ordering.Ordering`."""

    name: str
    summary: str
    order: Callable[[Problem], npt.NDArray[np.int64]]
    fills: bool = False
