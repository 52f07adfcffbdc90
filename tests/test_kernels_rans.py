"""The rANS kernels step by step: compiled and numpy give the same tables, words and symbols, or refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import COMPILED

from mpstore import kernels
from mpstore.kernels import codec_batch_numpy, codec_rans_numpy, native
from mpstore.kernels.rans_tables import LAST_CODE, TABLE_BYTES

pytestmark = pytest.mark.skipif(not COMPILED, reason="the extension was not built")


def compiled(mode):
    kernels.select(mode)
    return kernels.pick("codec_rans")


def counted(seed: int, contexts: int, symbols: int) -> np.ndarray:
    """Counts of which most are small or zero, a row of none among them."""
    rng = np.random.default_rng(seed)
    counts = (rng.exponential(1, (contexts, symbols)) ** (1 + seed % 9)).astype(np.int64)
    counts[seed % contexts] *= seed % 2
    return counts


def tables_of(loops, counts: np.ndarray) -> tuple[bytes, bytes, bytes, int]:
    codes = np.empty(counts.shape, np.uint8)
    loops.choose_codes(counts, codes)
    out = np.zeros(TABLE_BYTES * len(codes), np.uint8)
    bits = loops.write_tables(codes, out)
    frequency = np.empty(codes.shape, np.uint32)
    loops.frequencies(codes, frequency)
    assert (frequency.sum(axis=1) == 4096).all()
    back = np.zeros_like(codes)
    assert loops.read_tables(out[: (bits + 7) // 8], back) == bits
    assert (back == codes).all()
    return codes.tobytes(), out.tobytes(), frequency.tobytes(), bits


@pytest.mark.parametrize("mode", COMPILED)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([24, 40, 72, 136, 256]))
def test_tables_are_the_same(mode, seed, contexts, symbols):
    counts = counted(seed, contexts, symbols)
    assert tables_of(compiled(mode), counts) == tables_of(codec_rans_numpy, counts)


@pytest.mark.parametrize("mode", COMPILED)
@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 3), st.sampled_from([24, 256]))
def test_any_bits_are_read_alike(mode, bits, contexts, symbols):
    data = np.frombuffer(bits, np.uint8)
    found = [np.zeros((contexts, symbols), np.uint8) for _ in range(2)]
    read = [
        loops.read_tables(data, codes)
        for loops, codes in zip((compiled(mode), codec_rans_numpy), found, strict=True)
    ]
    assert read[0] == read[1]
    if read[0] >= 0:
        assert (found[0] == found[1]).all()


@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("lanes", [4, 32])
@pytest.mark.parametrize("size", [1, 31, 128, 4000])
def test_symbols_are_coded_alike_and_come_back(mode, lanes, size):
    symbols = (np.random.default_rng(size).exponential(3, size) ** 2).clip(0, 255).astype(np.uint8)
    codes = np.empty((1, 256), np.uint8)
    codec_rans_numpy.choose_codes(np.bincount(symbols, minlength=256).reshape(1, 256), codes)
    frequency = np.empty((1, 256), np.uint32)
    codec_rans_numpy.frequencies(codes, frequency)
    loops = compiled(mode)
    made = []
    for side in (loops, codec_rans_numpy):
        space = np.zeros(size + 400, np.uint16)
        made.append(space[side.encode_symbols(symbols, frequency, lanes, space) :])
    assert made[0].tobytes() == made[1].tobytes()
    words = np.concatenate([made[0], np.zeros(1 + codec_rans_numpy.SLACK, np.uint16)])
    back = np.empty_like(symbols)
    assert loops.decode_symbols(words, made[0].size, frequency, lanes, back)
    assert (back == symbols).all()
    assert not loops.decode_symbols(words, made[0].size + 1, frequency, lanes, back)
    assert loops.encode_symbols(symbols, frequency, lanes, np.zeros(2 * lanes + 4, np.uint16)) == -1


def refusals():
    frequency = np.zeros((1, 256), np.uint32)
    frequency[0, :2] = 4000, 96
    words = np.zeros(2000, np.uint16)
    out = np.zeros(10, np.uint8)
    loops = kernels.pick("codec_rans")
    codes = np.zeros((1, 24), np.uint8)
    yield lambda: loops.encode_symbols(np.full(10, 2, np.uint8), frequency, 4, words)  # no such symbol
    yield lambda: loops.encode_symbols(out, frequency, 8, words)
    yield lambda: loops.decode_symbols(words, 1990, frequency, 4, out)  # no room behind the words
    yield lambda: loops.decode_symbols(words, 7, frequency, 4, out)
    yield lambda: loops.decode_symbols(words, 100, frequency + 1, 4, out)
    yield lambda: loops.write_tables(codes, np.zeros(1000, np.uint8))  # a table without a symbol
    yield lambda: loops.write_tables(codes + 1, np.zeros(100, np.uint8))
    yield lambda: loops.frequencies(codes + LAST_CODE + 1, np.zeros((1, 24), np.uint32))
    yield lambda: loops.frequencies(codes, np.zeros((1, 22), np.uint32))
    shape = codec_batch_numpy.DeltaShape(np.dtype("<u2"), True, 0x7FFF, 7, 32, 40)
    blocks, short = [np.zeros(100, np.uint8)], [np.zeros(98, np.uint8)]
    batch = kernels.pick("codec_batch")
    yield lambda: batch.encode_deltas(blocks, short, shape)
    yield lambda: batch.decode_deltas(blocks, blocks, short, shape)
    yield lambda: batch.decode_deltas(blocks * 2, blocks, blocks, shape)
    yield lambda: batch.decode_planes([blocks], blocks, codec_batch_numpy.PlanesShape(np.dtype("<u2"), True))


def test_what_does_not_fit_is_refused_before_anything_is_read():
    kernels.select("native")
    assert native.variants()
    for call in refusals():
        with pytest.raises(ValueError, match=r"\w"):
            call()
