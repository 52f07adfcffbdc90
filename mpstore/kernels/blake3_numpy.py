"""Ids of several blocks, one after the other (reference of `blake3_native`).

Relies on ids. Promises: nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpstore.ids import ObjectId, block_id


def block_ids(blocks: Sequence[Any]) -> list[ObjectId]:
    """`ids.block_id` of each contiguous buffer."""
    return [block_id(memoryview(block)) for block in blocks]
