"""Merging stored words: every mode and the reference, which is the way over float32 arrays."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_modes import sides

from mpstore.kernels import merge_words_numpy, random_numpy
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_numpy import Search, Sources

SIZE = 3000  # several chunks, the last one short
ODD = {False: (0x7F80, 0xFF80, 0x7FC1, 0x8000, 0x0001), True: (0x7C00, 0xFC00, 0x7E01, 0x8000, 0x0001)}


def _sources(experts: int, half: bool, odd: bool, seed: int = 1) -> Sources:
    rng = np.random.default_rng(seed)
    base = rng.integers(0x2C00, 0x3C00, SIZE).astype(np.uint16) | (rng.integers(0, 2, SIZE) << 15).astype(
        np.uint16
    )
    items = []
    for _ in range(experts):
        words = base + rng.integers(-3, 4, SIZE).astype(np.int16).view(np.uint16)
        words[rng.random(SIZE) < 0.5] = 0
        same = rng.random(SIZE) < 0.5
        words[same] = base[same]
        words[700:2000] = base[700:2000]  # whole chunks without a change
        items.append(words)
    if odd:
        for place, word in enumerate(ODD[half]):
            base[rng.integers(0, SIZE, 9)] = word
            items[place % experts][rng.integers(0, SIZE, 9)] = word
    plain = np.array([odd and place % 3 == 2 for place in range(experts)], np.bool_)
    return Sources(base, items, plain, half)


def _terms(experts: int, *, random: bool, elect: bool, normalize: bool, low: float, weight: float) -> Terms:
    weights = np.linspace(0.1, 1.0, experts).astype(np.float32)
    weights[-1] = weight
    return Terms(
        weight=weights,
        scale=np.full(experts, 5.0 if random else 1.0, np.float32),
        low=np.full(experts, low, np.float32),
        high=np.full(experts, np.inf, np.float32),
        key=(np.arange(experts) * 7919).astype(np.uint64),
        keep=np.full(experts, random_numpy.below(0.2), np.uint64),
        random=random,
        elect=elect,
        normalize=normalize,
        divisor=np.float32(2.4),
        factor=np.float32(0.7),
        base_scale=np.float32(1.0 if elect else 0.5),
    )


def combined(sources: Sources, terms: Terms) -> tuple[np.ndarray, np.ndarray]:
    """The words and the counts that every mode gives: the same."""
    merged = []
    for side in sides("merge_words"):
        out = np.empty_like(sources.base)
        merged.append((out, side.combine(sources, terms, 12345, out)))
    for out, counts in merged[1:]:
        assert np.array_equal(out, merged[0][0])
        assert np.array_equal(counts, merged[0][1])
    return merged[0]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("experts", [1, 4, 8, 11])
@pytest.mark.parametrize("kind", ["linear", "ties", "dare", "dare_ties"])
def test_every_mode_gives_the_same_bits(half: bool, odd: bool, experts: int, kind: str) -> None:
    sources = _sources(experts, half, odd)
    for weight in (-0.3, np.inf):  # an infinite weight makes NaN of an unchanged element too
        terms = _terms(
            experts,
            random="dare" in kind,
            elect="ties" in kind,
            normalize=kind != "dare",
            low=0.001 if kind == "ties" else 0.0,
            weight=weight,
        )
        merged, counts = combined(sources, terms)
        assert bool(counts.any()) == odd
        assert (merged != sources.base).any()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("odd", [False, True])
def test_every_mode_finds_the_same_magnitudes(half: bool, odd: bool) -> None:
    sources = _sources(4, half, odd)
    _, deltas, _ = merge_words_numpy.widened(sources)
    finite = np.abs(deltas[0][np.isfinite(deltas[0]) & (deltas[0] != 0)])
    low = int(np.sort(finite)[finite.size // 2].view(np.uint32)) & ~0xFFFF
    found = []
    for kernel in sides("merge_words"):
        counts = [np.zeros(65536, np.uint32) for _ in range(2)]
        searches = [
            Search(0, low, low + (1 << 23), 0, None),
            Search(0, low, low + 65536, 0, counts[0]),
            Search(2, 0, 1 << 31, 15, counts[1]),
            Search(3, low, low + (1 << 22), 0, None),
        ]
        found.append((kernel.search(sources, searches), counts))
    expected, expected_counts = found[0]
    assert all(counts.any() for counts in expected_counts)
    assert all(one is None or one.size for one in expected)
    for ours, our_counts in found[1:]:
        for a, b in zip(ours, expected, strict=True):
            assert (a is None) == (b is None)
            assert a is None or np.array_equal(a, b)
        assert all(map(np.array_equal, our_counts, expected_counts))


def test_arrays_that_do_not_fit_are_refused() -> None:
    sources = _sources(2, False, False)
    terms = _terms(2, random=False, elect=False, normalize=False, low=0.0, weight=1.0)
    short = Sources(sources.base, [sources.items[0][:-1], sources.items[1]], sources.plain, False)
    for side in set(sides("merge_words")) - {merge_words_numpy}:
        with pytest.raises(ValueError, match="uint16"):
            side.combine(sources, terms, 0, np.empty(SIZE - 1, np.uint16))
        with pytest.raises(ValueError, match="uint16"):
            side.search(short, [])
