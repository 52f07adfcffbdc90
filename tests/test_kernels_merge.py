"""The merge kernels: every mode gives the same bits, NaN, infinities and subnormals included."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_modes import sides

from mpstore.kernels import merge_numpy, random_numpy
from mpstore.kernels.merge_numpy import Terms

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)


def make_terms(count, *, random, elect, normalize, rng, base_scale=1.0):
    return Terms(
        weight=rng.choice([0.0, 1.0, 0.3, -0.7, 2.5], count).astype(np.float32),
        scale=rng.choice([1.0, 5.0, 0.25], count).astype(np.float32),
        low=rng.choice([0.0, 0.5, np.inf], count).astype(np.float32),
        high=rng.choice([np.inf, 2.0, -np.inf], count).astype(np.float32),
        key=rng.integers(0, 1 << 63, count).astype(np.uint64),
        keep=np.array([random_numpy.below(p) for p in rng.random(count)], np.uint64),
        random=random,
        elect=elect,
        normalize=normalize,
        divisor=np.float32(1.7),
        factor=np.float32(rng.choice([1.0, -0.3, 0.0])),
        base_scale=np.float32(base_scale),
    )


def combined(base, deltas, terms, start):
    """What every mode makes of them: the same."""
    outs = []
    for side in sides("merge"):
        outs.append(np.full(base.size, 77, np.float32))
        side.combine(base, deltas, terms, start, outs[-1])
    assert len({out.tobytes() for out in outs}) == 1
    return outs[0]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_compiled_combination_has_the_references_bits(data):
    size = data.draw(st.one_of(st.integers(0, 70), st.sampled_from([255, 256, 300])))
    count = data.draw(st.integers(0, 5))
    base, *deltas = (data.draw(hnp.arrays(np.float32, size, elements=FLOATS)) for _ in range(count + 1))
    flags = {name: data.draw(st.booleans()) for name in ("random", "elect", "normalize")}
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    terms = make_terms(count, rng=rng, base_scale=data.draw(st.sampled_from([1.0, 0.4])), **flags)
    combined(base, deltas, terms, data.draw(st.integers(0, 1 << 40)))


def turned(terms: Terms, order) -> Terms:
    """The same deltas' columns in another order."""
    columns = {
        name: getattr(terms, name)[order] for name in ("weight", "scale", "low", "high", "key", "keep")
    }
    return replace(terms, **columns)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_order_of_the_deltas_does_not_show(data):
    """Whatever the values: the sums are exact on a common grid."""
    size, count = 16, data.draw(st.integers(2, 6))
    base, *deltas = (data.draw(hnp.arrays(np.float32, size, elements=FLOATS)) for _ in range(count + 1))
    flags = {name: data.draw(st.booleans()) for name in ("random", "elect", "normalize")}
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    terms = make_terms(count, rng=rng, **flags)
    order = data.draw(st.permutations(range(count)))
    plain = combined(base, deltas, terms, 5)
    other = combined(base, [deltas[e] for e in order], turned(terms, list(order)), 5)
    assert plain.tobytes() == other.tobytes()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_delta_of_zeros_changes_nothing_and_two_add_up_as_float32(data):
    """So it does not show whether a block that an expert leaves alone is cut out or not."""
    finite = st.floats(
        width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100
    )
    left, right = (data.draw(hnp.arrays(np.float32, 16, elements=finite)) for _ in range(2))
    base = np.zeros(16, np.float32)
    columns = {"random": False, "elect": False, "normalize": False, "rng": np.random.default_rng(0)}
    one = {"weight": 1.0, "scale": 1.0, "low": 0.0, "high": np.inf}
    terms = replace(
        make_terms(2, **columns), factor=np.float32(1), **{k: np.full(2, v, "f4") for k, v in one.items()}
    )
    wide = replace(
        make_terms(3, **columns), factor=np.float32(1), **{k: np.full(3, v, "f4") for k, v in one.items()}
    )
    two, three = combined(base, [left, right], terms, 0), combined(base, [left, right, base], wide, 0)
    assert two.tobytes() == three.tobytes()
    np.testing.assert_array_equal(two, left + right)


@pytest.mark.parametrize("count", [9, 20, 40, 70])
def test_many_deltas(count):
    rng = np.random.default_rng(count)
    base, *deltas = (rng.standard_normal(3000).astype(np.float32) for _ in range(count + 1))
    terms = make_terms(count, random=False, elect=True, normalize=True, rng=rng)
    terms = replace(terms, spare=merge_numpy.spare_bits(count))
    merged = combined(base, deltas, terms, 0)
    order = rng.permutation(count)
    assert combined(base, [deltas[e] for e in order], turned(terms, order), 0).tobytes() == merged.tobytes()


@pytest.mark.parametrize("size", [4095, 4096, 4097, 10_000])
@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("elect", [False, True])
def test_compiled_chunks_do_not_show(size, random, elect):
    rng = np.random.default_rng(size)
    base, *deltas = (rng.standard_normal(size).astype(np.float32) for _ in range(4))
    terms = make_terms(3, random=random, elect=elect, normalize=elect, rng=rng)
    whole = combined(base, deltas, terms, 11)
    pieces = [
        combined(base[s], [d[s] for d in deltas], terms, 11 + s.start)
        for s in (slice(0, 64), slice(64, size))
    ]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_compiled_combination_refuses_arrays_it_would_misread():
    base = np.zeros(8, np.float32)
    terms = make_terms(1, random=False, elect=False, normalize=False, rng=np.random.default_rng(0))
    for wrong in (np.zeros(7, np.float32), np.zeros(8), np.zeros(16, np.float32)[::2]):
        for side in set(sides("merge")) - {merge_numpy}:
            with pytest.raises(ValueError, match="float32"):
                side.combine(base, [wrong], terms, 0, np.empty_like(base))


def test_draws_are_splitmix64():
    """First outputs of the published generator for seed 1234567 (Vigna, splitmix64.c)."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    halves = [half for value in known for half in (value & 0xFFFFFFFF, value >> 32)]
    for start in range(9):
        for end in range(start, 9):
            assert random_numpy.draws(1234567, start, end - start).tolist() == halves[start:end]


@given(st.floats(0, 1))
def test_the_bound_on_a_draw_is_met_with_its_probability(probability):
    bound = random_numpy.below(probability)
    assert 0 <= bound <= 1 << 32
    assert math.isclose(bound / (1 << 32), probability, abs_tol=2.0**-32)
