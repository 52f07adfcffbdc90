"""Byte planes in C: every variant against the numpy reference, and back; arguments that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore.kernels import codec_batch_numpy, codec_rans_numpy, native

VARIANTS = list(native.variants().values())
sizes = st.one_of(st.integers(0, 300), st.sampled_from([1023, 1024, 1025, 4099]))


@given(sizes, st.sampled_from([1, 2, 4, 8]), st.booleans(), st.integers(0, 1 << 30))
@settings(max_examples=30, deadline=None)
def test_words_to_planes_and_back(size: int, width: int, rotated: bool, seed: int) -> None:
    words = np.random.default_rng(seed).bytes(size * width)
    words = np.frombuffer(words, f"<u{width}")
    wanted = np.empty((width, size), np.uint8)
    codec_rans_numpy.split_planes(words, rotated, wanted)
    for library in VARIANTS:
        planes, back = np.empty((width, size), np.uint8), np.empty_like(words)
        library.split_planes(words, rotated, planes)
        assert planes.tobytes() == wanted.tobytes()
        library.join_planes(planes, rotated, back)
        assert back.tobytes() == words.tobytes()


@given(sizes, st.integers(1, 256), st.integers(0, 1 << 30))
@settings(max_examples=20, deadline=None)
def test_counts_of_bytes_are_added(size: int, spread: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, spread, size, np.uint8)
    wanted = np.arange(256, dtype=np.uint32)
    codec_rans_numpy.count_bytes(values, wanted)
    for library in VARIANTS:
        counts = np.arange(256, dtype=np.uint32)
        library.count_bytes(values, counts)
        assert np.array_equal(counts, wanted)


@given(sizes, st.integers(1, 64), st.integers(0, 1 << 30))
@settings(max_examples=30, deadline=None)
def test_fine_planes_and_back(size: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, ranks = np.zeros(64, np.uint8), np.zeros(256, np.uint8)
    values[:kinds] = rng.permutation(256)[:kinds]
    ranks[values[:kinds]] = np.arange(kinds)
    top, below = values[rng.integers(0, kinds, size)], rng.integers(0, 256, size, np.uint8)
    wanted = np.empty(size, np.uint8), np.empty((size + 1) // 2 + (size + 3) // 4, np.uint8)
    codec_rans_numpy.split_fine(top, below, ranks, *wanted)
    for library in VARIANTS:
        made = [np.full_like(array, 0xAA) for array in wanted]
        library.split_fine(top, below, ranks, *made)
        assert all(np.array_equal(*pair) for pair in zip(made, wanted, strict=True))
        back = np.empty_like(top), np.empty_like(below)
        library.join_fine(made[0], values, made[1], *back)
        assert np.array_equal(back[0], top)
        assert np.array_equal(back[1], below)


@given(st.lists(st.integers(0, 90), max_size=5), st.integers(0, 1 << 30))
@settings(max_examples=20, deadline=None)
def test_blocks_are_the_same_to_the_last_byte(lengths: list[int], seed: int) -> None:
    left = [np.frombuffer(np.random.default_rng(seed + n).bytes(n), np.uint8) for n in lengths]
    right = [block.copy() for block in left]
    for library in (codec_batch_numpy, *VARIANTS):
        assert library.same(left, right)
    if any(lengths):
        right[max(range(len(lengths)), key=lengths.__getitem__)][-1] ^= 1
        assert not any(library.same(left, right) for library in (codec_batch_numpy, *VARIANTS))


@pytest.mark.parametrize("library", VARIANTS, ids=list(native.variants()))
def test_what_does_not_fit_is_refused(library) -> None:
    words, planes, eight = np.zeros(4, np.uint16), np.zeros((2, 4), np.uint8), np.zeros(8, np.uint8)
    for call, arguments in (
        (library.split_planes, (words, True, planes[:, :3].copy())),
        (library.split_planes, (words, True, planes.T)),
        (library.split_planes, (np.zeros(2, np.complex128), True, np.zeros(32, np.uint8))),
        (library.join_planes, (planes[:1], True, words)),
        (library.count_bytes, (eight, np.zeros(255, np.uint32))),
        (library.split_fine, (eight, eight, np.zeros(255, np.uint8), eight, np.zeros(6, np.uint8))),
        (library.split_fine, (eight, eight, np.zeros(256, np.uint8), eight, np.zeros(5, np.uint8))),
        (library.join_fine, (eight, np.zeros(63, np.uint8), np.zeros(6, np.uint8), eight, eight)),
        (library.same, ([eight], [eight[:7]])),
        (library.same, ([eight], [])),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            call(*arguments)
