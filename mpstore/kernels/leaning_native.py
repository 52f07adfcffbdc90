"""Frames in Rice codes that lean on one block, from their bytes to words, several frames a call.

Relies on kernels.native. Promises: a row that is said to be filled holds what the frame's own bytes decode
to; what is odd about a frame is left to others; releases the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.kernels import native
from mpstore.kernels.rice_numpy import RiceShape


def decode(
    frames: Sequence[Any],
    ids: bytes,
    base: tuple[bytes, Any],
    kind: tuple[int, int],
    shape: RiceShape,
    out: npt.NDArray[np.uint8],
) -> list[bool]:
    """Decode what can be: which rows of `out` (n, bytes of a block) are filled. Nothing is hashed.

    frames: n buffers, each the bytes of a frame; ids: 32 bytes of each; base: id and bytes of what they lean
    on; kind: the codec and the form that they must have.
    """
    whole = bytearray(len(frames))
    native.library().decode_leaning(
        frames, ids, *base, out, *kind, shape.dtype.itemsize, shape.sign_magnitude, shape.mask, shape.shift,
        whole,
    )  # fmt: skip
    return list(map(bool, whole))
