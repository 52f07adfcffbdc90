"""Blocks in Rice codes or tiers decoded several at a time: as one by one, and nothing odd is taken."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_modes import COMPILED

from mpstore import codecs, kernels
from mpstore.codecs import Format, Level
from mpstore.codecs.codes import RICE_DELTA, TIER_DELTA
from mpstore.ids import block_id
from mpstore.store import Piece, decode_leaning
from mpstore.store.frame import open_piece
from tests.store_material import frame_of

HEADER_BYTES = 88
CODECS = {Level.SMALL: RICE_DELTA, Level.DEFAULT: TIER_DELTA}


def block(seed: int, elements: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(elements).astype(np.float32).view("<u4") >> 16).astype("<u2")


def piece_of(raw: np.ndarray, base: np.ndarray, level: Level, form: Format = Format.BF16) -> Piece:
    """A frame as it was read from a pack."""
    piece = Piece(block_id(raw.tobytes()), memoryview(frame_of(raw, base, form, level)), "p.pack", 8)
    assert open_piece(piece).header.codec == CODECS[level]
    return piece


def decoded(pieces: list[Piece], base: np.ndarray, form: Format = Format.BF16, **how: bool) -> list:
    return decode_leaning(pieces, (block_id(base.tobytes()), base.view(np.uint8)), int(form), **how)


@pytest.mark.parametrize("mode", COMPILED)
def test_blocks_that_lean_on_one_are_decoded_at_once(mode: str) -> None:
    kernels.select(mode)
    base = block(0)
    raws = [base + np.random.default_rng(k).integers(0, 1 + k, base.size).astype("<u2") for k in range(1, 6)]
    levels = [*CODECS, *CODECS, Level.DEFAULT]
    pieces = [piece_of(raw, base, level) for raw, level in zip(raws, levels, strict=True)]
    assert [row.tobytes() for row in decoded(pieces, base)] == [raw.tobytes() for raw in raws]
    assert decoded([], base) == []


def test_without_compiled_kernels_each_goes_the_other_way() -> None:
    kernels.select("numpy")
    base = block(0)
    assert decoded([piece_of(base + np.uint16(1), base, Level.DEFAULT)], base) == [None]


@pytest.mark.parametrize("level", list(CODECS))
@pytest.mark.parametrize("mode", COMPILED)
def test_what_is_not_of_the_kind_is_left_to_others(mode: str, level: Level) -> None:
    kernels.select(mode)
    base, other = block(0), block(1)
    raw = base + np.uint16(1)
    whole = piece_of(raw, base, level)
    assert decoded([whole], base)[0] is not None
    for piece, leaning, form in [
        (piece_of(other + np.uint16(1), other, level), base, Format.BF16),  # of another base
        (whole._replace(id=block_id(b"another")), base, Format.BF16),
        (piece_of(raw, base, level, Format.F16), base, Format.BF16),
        (whole, base, Format.F16),
        (whole, base[:-1].copy(), Format.BF16),  # of another size
        (whole._replace(data=memoryview(b"")), base, Format.BF16),
    ]:
        assert decoded([piece], leaning, form) == [None]
    assert decoded([whole], base[:0].copy()) == [None]
    assert decoded([whole._replace(data=memoryview(frame_of(raw, None)))], base) == [None]


@pytest.mark.parametrize("level", list(CODECS))
@pytest.mark.parametrize("mode", COMPILED)
def test_invariant_04_a_damaged_frame_is_never_taken_for_its_block(mode: str, level: Level) -> None:
    kernels.select(mode)
    base = block(0, 1500)
    raw = base + np.random.default_rng(1).integers(0, 3, base.size).astype("<u2")
    whole = piece_of(raw, base, level)
    damaged = []
    for at in range(whole.data.nbytes):
        data = bytearray(whole.data)
        data[at] ^= 1 << at % 8
        damaged.append(whole._replace(data=memoryview(bytes(data))))
    damaged += [whole._replace(data=whole.data[:length]) for length in (0, 8, 87, 88, whole.data.nbytes - 1)]
    rows = decoded(damaged, base)
    assert rows[:HEADER_BYTES] == [None] * HEADER_BYTES
    assert rows[-5:] == [None] * 5
    assert sum(row is None for row in rows) > 0.95 * len(rows)
    # What is not refused is right all the same: parameters of contexts that the block has no word of.
    assert all(row is None or row.tobytes() == raw.tobytes() for row in rows)
    verified = decoded(damaged[:HEADER_BYTES], base, verified=True)  # whatever was said of it before
    assert verified == [None] * HEADER_BYTES


@pytest.mark.parametrize("level", list(CODECS))
def test_the_header_is_that_of_open_piece(level: Level) -> None:
    base = block(0)
    frame = open_piece(piece_of(base + np.uint16(1), base, level))
    assert frame.header.header_bytes == HEADER_BYTES
    assert codecs.needs_base(frame.header.codec)
