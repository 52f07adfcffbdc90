"""A counter-based generator: the draw of (key, element offset), whatever was drawn before (numpy reference).

Relies on numpy. Promises: the bits of native/draws.h. The mix is splitmix64 (Steele, Lea, Flood: "Fast
splittable pseudorandom number generators", 2014) seeded with the key: draws 2i and 2i + 1 are the low and the
high half of its i-th output.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

GOLDEN = 0x9E3779B97F4A7C15
MIX1 = 0xBF58476D1CE4E5B9
MIX2 = 0x94D049BB133111EB
DRAW_BITS = 32
_MASK = (1 << 64) - 1


def draws(key: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """The 32-bit draws of offsets start .. start + count - 1, as uint64 of shape (count,)."""
    state = np.arange(start // 2 + 1, (start + count + 1) // 2 + 1, dtype=np.uint64)
    state *= np.uint64(GOLDEN)
    state += np.uint64(key & _MASK)
    state ^= state >> np.uint64(30)
    state *= np.uint64(MIX1)
    state ^= state >> np.uint64(27)
    state *= np.uint64(MIX2)
    state ^= state >> np.uint64(31)
    return state.astype("<u8", copy=False).view("<u4")[start % 2 :][:count].astype(np.uint64)


def below(probability: float) -> int:
    """The bound on a draw that is met with that probability: draw < below(p), for p in [0, 1]."""
    return min(math.ceil(max(probability, 0.0) * (1 << DRAW_BITS)), 1 << DRAW_BITS)
