"""Merging stored words: every mode and the reference, which is the way over float32 arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import sides

from mpstore.kernels import merge_numpy, merge_words_numpy, random_numpy
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


def combined(sources: Sources, terms: Terms, start: int = 12344) -> tuple[np.ndarray, np.ndarray]:
    """What every mode gives, words and counts: the same. Where draws count, from an odd element on too."""
    if terms.random and start % 2 == 0:
        combined(sources, terms, start + 1)
    merged = []
    for side in sides("merge_words"):
        out = np.empty_like(sources.base)
        merged.append((out, side.combine(sources, terms, start, out)))
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


def _spread(rng: np.random.Generator, half: bool, orders: int) -> np.ndarray:
    """Words whose exponents are up to so many apart; some are zeros."""
    mantissa, middle, most = (10, 15, 30) if half else (7, 120, 254)
    exponents = np.clip(middle + rng.integers(-orders, orders + 1, 300) // 2, 0, most)
    words = exponents << mantissa | rng.integers(0, 1 << mantissa, 300) | rng.integers(0, 2, 300) << 15
    words[rng.random(300) < 0.1] = 0
    return words.astype(np.uint16)


def _columns(rng: np.random.Generator, experts: int) -> Terms:
    """Weights, scales and thresholds of all kinds, those that compiled kernels have ways of their own for."""
    weights = (
        np.ones(experts),
        np.full(experts, 0.3),
        rng.random(experts) + 0.1,
        rng.standard_normal(experts),
    )
    short = rng.choice([-5.0, 0.4375, 1.25, 3.0, 20.0, 255.0], experts)  # few bits, but no powers of two
    scales = (np.ones(experts), np.full(experts, 2.0), np.full(experts, 5.0), short, rng.random(experts))
    lows = (np.zeros(experts), np.full(experts, 1e-3), rng.choice([0.0, 1e-3, np.inf], experts))
    highs = (np.full(experts, np.inf), np.full(experts, np.inf), np.full(experts, 1e-2))
    random, elect, normalize = rng.integers(0, 2, 3).tolist()
    return Terms(
        weight=weights[rng.integers(4)].astype(np.float32),
        scale=scales[rng.integers(5)].astype(np.float32),
        low=lows[rng.integers(3)].astype(np.float32),
        high=highs[rng.integers(3)].astype(np.float32),
        key=rng.integers(0, 1 << 63, experts).astype(np.uint64),
        keep=np.array([random_numpy.below(p) for p in rng.choice([0.0, 0.3, 1.0], experts)], np.uint64),
        random=bool(random),
        elect=bool(elect),
        normalize=bool(normalize),
        divisor=np.float32(rng.choice([8.0, 2.4])),
        factor=np.float32(rng.choice([1.0, -0.3, 0.0])),
        base_scale=np.float32(rng.choice([1.0, 1.0, 0.5, 0.3])),
        spare=merge_numpy.spare_bits(experts),
    )


@settings(max_examples=75, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([0, 1, 3, 8, 17, 25, 65]), st.integers(1, 30), st.booleans())
def test_words_near_to_each_other_and_far_apart(seed: int, experts: int, orders: int, half: bool) -> None:
    """Where plain sums are exact, and where they would not be."""
    rng = np.random.default_rng(seed)
    base = _spread(rng, half, orders)
    items = [
        _spread(rng, half, orders)
        if far
        else base + rng.integers(-3, 4, 300).astype(np.int16).view(np.uint16)
        for far in rng.random(experts) < 0.5
    ]
    sources = Sources(base, items, rng.random(experts) < rng.choice([0.0, 0.3]), half)
    combined(sources, _columns(rng, experts))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("elect", [False, True])
def test_sums_at_the_edge_of_what_float32_holds(half: bool, elect: bool) -> None:
    """Of eight deltas by a factor of 5, one bit more with each 64 elements; then what is large is taken away
    again, so that the last bits of the sum are all that is left."""
    rng = np.random.default_rng(1)
    mantissa, high = (10, 24) if half else (7, 127)
    most = (1 << mantissa) - 1
    low = np.repeat(high - np.arange(1, 17), 64)
    base = np.full(low.size, 1 << 15 | high << mantissa | most, np.uint16)
    small = [(low << mantissa | rng.integers(0, most + 1, low.size)).astype(np.uint16) for _ in range(2)]
    sources = Sources(base, [*[base & 0x7FFF] * 6, *small], np.zeros(8, np.bool_), half)
    terms = _terms(8, random=False, elect=elect, normalize=False, low=0.0, weight=1.0)
    terms = replace(terms, weight=np.ones(8, np.float32), scale=np.full(8, 5, np.float32))
    terms = replace(terms, base_scale=np.float32(70), factor=np.float32(1))
    combined(sources, terms)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_draws_at_their_bound(half: bool, above: int) -> None:
    sources = _sources(3, half, False)
    terms = _terms(3, random=True, elect=False, normalize=False, low=0.0, weight=0.5)
    draws = [random_numpy.draws(int(key), 12344, SIZE) for key in terms.key]
    changed = [np.flatnonzero(words != sources.base)[place] for place, words in enumerate(sources.items)]
    keep = np.array(
        [row[place] + np.uint64(above) for row, place in zip(draws, changed, strict=True)], np.uint64
    )
    combined(sources, replace(terms, keep=keep))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([0, 1, 1 << 16, 1 << 23, 1 << 26]), st.booleans())
def test_every_mode_collects_few_and_many(seed: int, width: int, half: bool) -> None:
    rng = np.random.default_rng(seed)
    sources = _sources(3, half, bool(rng.integers(2)), seed)
    _, deltas, _ = merge_words_numpy.widened(sources)
    found = []
    lows = [int(abs(delta[rng.integers(SIZE)]).view(np.uint32)) & 0x7FFFFFFF for delta in deltas]
    for side in sides("merge_words"):
        counts = [np.zeros(1 + (width >> 9), np.uint32) for _ in lows]
        searches = [Search(e, low, min(low + width, 1 << 31), 0, None) for e, low in enumerate(lows)]
        searches += [Search(e, low, 0, 9, counts[e]) for e, low in enumerate(lows)]
        collected = side.search(sources, searches)[:3]
        found.append([array.tobytes() for array in (*collected, *counts) if array is not None])
    assert all(one == found[0] for one in found)


def test_arrays_that_do_not_fit_are_refused() -> None:
    sources = _sources(2, False, False)
    terms = _terms(2, random=False, elect=False, normalize=False, low=0.0, weight=1.0)
    short = Sources(sources.base, [sources.items[0][:-1], sources.items[1]], sources.plain, False)
    for side in set(sides("merge_words")) - {merge_words_numpy}:
        with pytest.raises(ValueError, match="a word for each of the base's"):
            side.combine(sources, terms, 0, np.empty(SIZE - 1, np.uint16))
        for odd in (short, short._replace(items=[sources.items[0].view(np.uint32), sources.items[1]])):
            with pytest.raises(ValueError, match="uint16"):
                side.search(odd, [])


def test_words_may_come_as_bytes_that_lie_anywhere() -> None:
    """As they do where a block is stored as it is, behind a header of any length."""
    sources = _sources(3, False, False)
    terms = _terms(3, random=False, elect=True, normalize=True, low=0.0, weight=1.0)
    room = [np.zeros(2 * SIZE + 1, np.uint8) for _ in range(4)]
    for at, words in zip(room, (sources.base, *sources.items), strict=True):
        at[1:] = words.view(np.uint8)
    moved = sources._replace(base=room[0][1:], items=[one[1:] for one in room[1:]])
    for side in set(sides("merge_words")) - {merge_words_numpy}:
        out = [np.empty(SIZE, np.uint16) for _ in range(2)]
        for words, to in zip((sources, moved), out, strict=True):
            side.combine(words, terms, 0, to)
        assert out[0].tobytes() == out[1].tobytes()
