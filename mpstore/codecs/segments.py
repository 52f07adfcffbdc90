"""One encoded block as a list of segments, and zstd at the edge: bounded, errors translated.

Relies on zstandard and numpy. Promises: `unpack` returns exactly the size asked for, allocates nothing
beyond it on behalf of the input, and raises DamagedError on anything else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import zstandard

from mpstore.errors import DamagedError

Buffer: TypeAlias = Any  # bytes, bytearray, memoryview or a contiguous numpy array
Bytes: TypeAlias = npt.NDArray[np.uint8]

_local = threading.local()


class Encoded(NamedTuple):
    """An encoded block: the codec's wire code and its segments in order, each with its own length. A tuple,
    since two are made of each block that is stored."""

    codec: int
    segments: tuple[Buffer, ...]

    @property
    def encoded_bytes(self) -> int:
        """Bytes of all segments together, without the frame's own header."""
        return sum([memoryview(segment).nbytes for segment in self.segments])


def as_bytes(buffer: Buffer) -> Bytes:
    """Any contiguous buffer as a (n,) uint8 array, without a copy."""
    if isinstance(buffer, np.ndarray):
        if buffer.ndim == 1 and buffer.dtype == np.uint8:
            return buffer
        return buffer.reshape(-1).view(np.uint8)
    return np.frombuffer(buffer, np.uint8)


def join(parts: Iterable[Buffer]) -> bytes:
    """Buffers one after the other."""
    return b"".join(memoryview(part).cast("B") for part in parts)


def expect(segments: Sequence[Buffer], count: int) -> None:
    """Raise DamagedError unless there are `count` segments."""
    if len(segments) != count:
        raise DamagedError(f"encoded block has {len(segments)} segments, its codec needs {count}")


def pack(data: Buffer, zstd_level: int) -> Buffer:
    """The smaller of zstd and `data` as it is (told apart by length when unpacked)."""
    plain = as_bytes(data)
    compressors = _local.__dict__.setdefault("compressors", {})
    if zstd_level not in compressors:
        compressors[zstd_level] = zstandard.ZstdCompressor(level=zstd_level, write_dict_id=False)
    squeezed: bytes = compressors[zstd_level].compress(plain.data)
    return squeezed if len(squeezed) < plain.size else plain.data


def unpack(data: Buffer, size: int) -> Bytes:
    """Inverse of `pack`: exactly `size` bytes."""
    plain = as_bytes(data)
    if plain.size == size:
        return plain
    if plain.size > size:
        raise DamagedError(f"segment of {plain.size} bytes where at most {size} can be")
    try:
        if zstandard.get_frame_parameters(plain.data).content_size != size:
            raise DamagedError(f"zstd segment does not hold the {size} bytes it must")
        decompressor = _local.__dict__.get("decompressor")
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor()
        out = np.frombuffer(decompressor.decompress(plain.data, max_output_size=size), np.uint8)
    except zstandard.ZstdError as error:
        raise DamagedError(f"zstd segment is damaged: {error}") from error
    if out.size != size:
        raise DamagedError(f"zstd segment held {out.size} bytes, not {size}")
    return out
