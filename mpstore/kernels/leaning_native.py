"""Frames in Rice codes or tiers that lean on one block, from bytes to words or merged words: several a call.

Relies on kernels.native. Promises: what is said to be done is what the frames' own bytes give, and they hash
to their ids where that is asked for; what is odd about a frame is left to others; releases the interpreter
lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.ids import ID_BYTES
from mpstore.kernels import native
from mpstore.kernels.leaning_numpy import Blocks, Kind, Merged
from mpstore.kernels.merge_native import MOST_DELTAS
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_native import kept_arguments
from mpstore.kernels.scratch import scratch


def decode(
    frames: Sequence[Any],
    ids: bytes,
    base: tuple[bytes, Any],
    kind: Kind,
    verify: bool,
    out: npt.NDArray[np.uint8],
) -> list[bool]:
    """Decode what can be: which rows of `out` (n, bytes of a block) are filled.

    frames: n buffers, each the bytes of a frame; ids: 32 bytes of each; base: id and bytes of what they lean
    on. `verify`: a row that does not hash to its id is not filled.
    """
    library = native.library()
    whole = bytearray(len(frames))
    room = scratch("hash", library.blake3_room(base[1].nbytes))
    library.decode_leaning(frames, ids, *base, out, room, whole, *_numbers(kind), verify)
    return list(map(bool, whole))


def merge(blocks: Blocks, kind: Kind, terms: Terms, half: bool, verify: bool) -> list[Merged | None]:
    """Merge what can be, as `decode` and `merge_words.combine` would one after the other; None: a frame of
    the block is odd. Words are of float16 where `half`, else of bfloat16."""
    library = native.library()
    count, experts, size = len(blocks.bases), len(blocks.plain), blocks.bases[0].nbytes
    if experts > MOST_DELTAS:
        return [None] * count
    out = np.empty((count, size), np.uint8)
    nonfinite = np.empty((count, 1 + experts), np.int64)
    ids, whole = bytearray(ID_BYTES * count), bytearray(count)
    rows = scratch("rows", experts * library.merge_leaning_row(size))
    room = scratch("hash", library.blake3_room(size))
    library.merge_leaning(
        blocks.frames, blocks.ids, blocks.bases, blocks.base_ids, blocks.plain,
        np.array(blocks.starts, np.uint64), out, nonfinite, ids, rows, room, whole,
        *kept_arguments(terms), *_numbers(kind), verify, half,
    )  # fmt: skip
    return [
        Merged(raw, bytes(ids[ID_BYTES * k : ID_BYTES * (k + 1)]), counts) if whole[k] else None
        for k, (raw, counts) in enumerate(zip(out, nonfinite.tolist(), strict=True))
    ]


def _numbers(kind: Kind) -> tuple[Any, ...]:
    shape = kind.shape
    return *kind.codecs, kind.form, shape.dtype.itemsize, shape.sign_magnitude, shape.shift, shape.mask
