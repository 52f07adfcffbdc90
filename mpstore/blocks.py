"""The partition of a flattened tensor into blocks: pure arithmetic on elements and bytes.

Relies on errors. Promises: blocks cover the tensor without gap or overlap, in element order, each of
`block_elements` elements except the last; every boundary falls on a whole byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mpstore.errors import DamagedError

DEFAULT_BLOCK_ELEMENTS: Final = 131072
OPAQUE_BLOCK_BYTES: Final = 262144
"""Headers and opaque files are cut into blocks of this many bytes."""


def count(elements: int, block_elements: int) -> int:
    """Blocks of a tensor of so many elements; none for an empty tensor."""
    return -(-elements // block_elements)


def spans(elements: int, block_elements: int) -> Iterator[tuple[int, int]]:
    """(start, stop) in elements of each block.

    >>> list(spans(150, 64))
    [(0, 64), (64, 128), (128, 150)]
    """
    for start in range(0, elements, block_elements):
        yield start, min(start + block_elements, elements)


def byte_lengths(data_bytes: int, bits: int, block_elements: int) -> Iterator[int]:
    """Bytes of each block of a tensor of `data_bytes` bytes whose items have `bits` bits. DamagedError: a
    block would end within a byte, which only a record from outside can ask for.

    >>> list(byte_lengths(300, 16, 64))
    [128, 128, 44]
    """
    full, odd = divmod(block_elements * bits, 8)
    if odd:
        raise DamagedError(f"blocks of {block_elements} elements of {bits} bits do not end on a byte")
    for start in range(0, data_bytes, full):
        yield min(full, data_bytes - start)
