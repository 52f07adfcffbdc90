"""Frames in Rice codes or tiers that lean on one block, from bytes to words: where no kernels are compiled.

Relies on nothing. Promises: takes no frame, so that each is parsed and decoded by those who can say what is
wrong with it; that way is the reference of `leaning_native`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.rice_numpy import RiceShape


class Kind(NamedTuple):
    """What frames must be: of one of two codecs (Rice codes, tiers), of a form; how words are coded."""

    codecs: tuple[int, int]
    form: int
    shape: RiceShape


class Blocks(NamedTuple):
    """n blocks of one size of a merge of k experts.

    frames: n * k buffers, each the bytes of a frame, block by block; ids: 32 bytes of each; bases, base_ids:
    the bytes and the id of what each block's frames lean on; plain: k flags, whether words are the delta;
    starts: offsets of the blocks in their tensor, in elements.
    """

    frames: Sequence[Any]
    ids: bytes
    bases: Sequence[Any]
    base_ids: bytes
    plain: Any
    starts: Sequence[int]


class Merged(NamedTuple):
    """A merged block: its bytes, its id, and how many values of the base and of each delta are not finite."""

    raw: Any
    id: bytes
    nonfinite: list[int]


def decode(frames: Sequence[Any], *_: Any) -> list[bool]:
    """As `leaning_native.decode`: no row is filled."""
    return [False] * len(frames)


def merge(blocks: Blocks, _kind: Kind, _terms: Terms, _half: bool, _verify: bool) -> list[Merged | None]:
    """As `leaning_native.merge`: nothing is merged."""
    return [None] * len(blocks.bases)
