"""Blocks, bases and stores for the tests of floor 2: small, seeded, of every codec."""

from __future__ import annotations

import numpy as np

from mpstore.codecs import Format, Level
from mpstore.ids import block_id
from mpstore.store import Hint, ObjectStore
from mpstore.store import frame as frames

ELEMENTS = 64


def bf16_block(seed: int, elements: int = ELEMENTS) -> bytes:
    """A block of bf16 weights as a checkpoint has them."""
    values = np.random.default_rng(seed).standard_normal(elements).astype(np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def fine_tuned(block: bytes, seed: int) -> bytes:
    """The block with some elements moved by one unit in the last place."""
    bits = np.frombuffer(block, np.uint16).copy()
    bits += np.random.default_rng(seed).integers(0, 2, bits.size).astype(np.uint16)
    return bits.tobytes()


def frame_of(
    raw: np.ndarray, base: np.ndarray | None, form: Format = Format.BF16, level: Level = Level.DEFAULT
) -> bytes:
    """A block as it lies in a pack, leaning on a base where there is one."""
    leaning = None if base is None else (block_id(base.tobytes()), base)
    header, segments = frames.encode(block_id(raw.tobytes()), raw, int(form), leaning, level)
    return frames.pack_header(header) + b"".join(bytes(memoryview(one)) for one in segments)


def open_store(directory: object, pack_bytes: int = 1024) -> ObjectStore:
    return ObjectStore.init(str(directory), pack_bytes=pack_bytes)


def fill(store: ObjectStore, count: int = 12, seed: int = 0) -> dict[bytes, bytes]:
    """Write `count` bases, as many fine-tuned blocks that lean on them, and a record; id -> bytes."""
    content: dict[bytes, bytes] = {}
    with store.writer("fill") as writer:
        for i in range(count):
            base = bf16_block(1000 * seed + i)
            base_id = writer.put(base, Hint(Format.BF16))
            tuned = fine_tuned(base, 7 + i)
            content[base_id] = base
            content[writer.put(tuned, Hint(Format.BF16, base_id, base))] = tuned
        record = b"record %d" % seed
        content[writer.put_record("commit", record)] = record
        writer.finish()
    return content
