"""Reading and hashing in two threads: every byte in order, buffers left alone until they are hashed."""

from __future__ import annotations

import hashlib
import io
import threading

import numpy as np
import pytest

from mpstore.errors import DamagedError
from mpstore.hashing import Hashing
from mpstore.ingest.reading import HashedReader

pytestmark = pytest.mark.disk

PIECE = 1 << 20


def hashing_threads() -> int:
    return sum(thread.name.startswith("mp-sha256") for thread in threading.enumerate())


@pytest.mark.parametrize("pieces", [0, 1, 3, 40])
def test_a_hash_lags_behind_and_is_that_of_all(pieces: int) -> None:
    data = np.random.default_rng(pieces).integers(0, 256, pieces * PIECE + 777, np.uint8).tobytes()
    buffers = [np.empty(PIECE, np.uint8) for _ in range(3)]
    hashed = [None] * 3
    with Hashing() as hashing, HashedReader(io.BytesIO(data), "x", hashing) as reader:
        assert reader.read(77) == data[:77]
        for k in range(pieces):
            if (before := hashed[k % 3]) is not None:
                before.result()
            hashed[k % 3] = reader.fill(buffers[k % 3])
            at = 77 + k * PIECE
            assert buffers[k % 3].tobytes() == data[at : at + PIECE]
        assert reader.read_block(PIECE) == data[77 + pieces * PIECE :]
        assert reader.finish(None) == hashlib.sha256(data).digest()
        assert reader.taken_bytes == len(data)
    assert hashing_threads() == 0


def test_a_buffer_that_is_not_hashed_yet_says_so() -> None:
    """What `fill` gives is done when the buffer may change, not before."""
    data = bytes(range(256)) * (PIECE // 8)
    buffer = np.empty(len(data), np.uint8)
    with Hashing() as hashing, HashedReader(io.BytesIO(data), "x", hashing) as reader:
        reader.fill(buffer).result()
        buffer[:] = 0
        assert reader.finish(hashlib.sha256(data).digest()) == hashlib.sha256(data).digest()


def test_no_thread_is_left_after_an_error() -> None:
    with Hashing() as hashing, HashedReader(io.BytesIO(bytes(PIECE)), "x", hashing) as reader:
        reader.fill(np.empty(PIECE, np.uint8))
        assert hashing_threads() == 1
        with pytest.raises(DamagedError, match="early"):
            reader.fill(np.empty(PIECE, np.uint8))
    assert hashing_threads() == 0
