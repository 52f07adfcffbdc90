"""The planner's kernels: every mode gives the same bits, and these are what a plain loop comes to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import sides

from mpstore.kernels.greedy_numpy import Choices
from mpstore.kernels.omission_numpy import Reading

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 21), st.sampled_from([1, 2, 15, 16, 17, 40, 131]))


def family(seed: int, experts: int, count: int, shared: bool) -> Choices:
    """Columns with gaps, equal sizes, costs below 1, and delta bases that several experts share."""
    rng = np.random.default_rng(seed)
    member = rng.random((experts, count)) < rng.choice([0.3, 1.0])
    error = rng.lognormal(0, 2, member.shape) * member
    if count > 3:
        error[:, 3] = member[:, 3]  # equally dense: the first is read
    cost = np.floor(rng.lognormal(1, 2, member.shape))
    cosines = rng.uniform(-1, 1, (5, experts, experts))
    cosines[:, range(experts), range(experts)] = 1.0
    number = rng.integers(-1, 3, member.shape)
    bytes_ = np.where(number >= 0, number + 5.0, 0.0)
    return Choices(
        member,
        error,
        np.where(shared, cost + bytes_, cost),
        cosines,
        rng.integers(0, 5, count),
        number if shared else None,
        bytes_ if shared else None,
    )


def walked(choices: Choices, steps: int) -> list[list[np.ndarray]]:
    """What every mode makes of a walk, from its sums to its segments."""
    out = []
    for side in sides("greedy"):
        drop = np.empty(choices.error.shape)
        side.towards(choices.error, choices.similarity, choices.tensor, drop)
        square = np.maximum((drop * choices.error).sum(axis=0), 0.0)
        count = choices.error.shape[1]
        path, paid = np.full((steps, count), 7, np.int32), np.empty((steps, count))
        norms = np.empty((steps + 1, count))
        side.walk(choices, 2.0 * drop - choices.error, square, path, paid, norms)
        gain = np.square(norms[:-1]) - np.square(norms[1:])
        segment, segments = np.empty_like(path), np.empty(count, np.int64)
        density = side.hull(path, gain, paid, segment, segments)
        unit = np.full(choices.error.shape, -1, np.int64)
        rank = np.random.default_rng(0).permutation(len(density))
        side.enter_units(path, segment, np.cumsum(segments) - segments, rank, np.arange(count), unit)
        out.append([drop, path, paid, norms, segment, segments, density, unit])
    return out


@settings(max_examples=30, deadline=None)
@given(SIZES, st.booleans())
def test_walks_are_the_same_bits_in_every_mode(sizes: tuple[int, int, int], shared: bool) -> None:
    choices = family(*sizes, shared)
    steps = int(choices.member.sum(axis=0).max())
    reference, *others = walked(choices, steps)
    for other in others:
        for one, expected in zip(other, reference, strict=True):
            assert one.tobytes() == expected.tobytes()
    path, unit = reference[1], reference[-1]
    assert ((path >= 0).sum(axis=0) == choices.member.sum(axis=0)).all()
    assert ((unit >= 0) == choices.member).all()


def test_a_base_that_was_paid_for_costs_the_others_nothing() -> None:
    member, number = np.ones((3, 1), np.bool_), np.array([[4], [4], [-1]])
    shared = np.array([[90.0], [90.0], [0.0]])
    error, cost = np.array([[3.0], [2.0], [1.0]]), np.array([[10.0], [10.0], [10.0]]) + shared
    choices = Choices(member, error, cost, np.eye(3)[None], np.zeros(1, np.int64), number, shared)
    for _, path, paid, *_ in walked(choices, 3):
        assert path[:, 0].tolist() == [2, 0, 1]
        assert paid[:, 0].tolist() == [10.0, 100.0, 10.0]


def test_densities_fall_along_the_hull() -> None:
    rng = np.random.default_rng(1)
    path = np.tile(np.arange(6, dtype=np.int32)[:, None], (1, 50))
    path[4:, ::3] = -1
    gain, cost = rng.lognormal(0, 2, path.shape), rng.lognormal(0, 1, path.shape)
    for side in sides("greedy"):
        segment, segments = np.empty_like(path), np.empty(50, np.int64)
        density = side.hull(path, gain, cost, segment, segments)
        for column, own in enumerate(np.split(density, np.cumsum(segments)[:-1])):
            assert (np.diff(own) <= own[1:] * 1e-12).all()
            steps = path[:, column] >= 0
            worth = np.bincount(segment[steps, column], gain[steps, column])
            np.testing.assert_allclose(own * np.bincount(segment[steps, column], cost[steps, column]), worth)


def reading_of(seed: int, experts: int, count: int) -> tuple[Reading, int]:
    """An order in which some units are of several blocks, and some candidates are none."""
    rng = np.random.default_rng(seed)
    units = max(experts * count // 2, 1)
    unit = rng.integers(-1, units, (experts, count))
    row_bits = experts.bit_length()
    steps = np.sort((unit.T << row_bits) | np.arange(experts), axis=1)
    error = rng.lognormal(0, 2, unit.shape) * (unit >= 0)
    return Reading(np.ascontiguousarray(steps), row_bits, error, int(rng.integers(1, 60))), units


@settings(max_examples=30, deadline=None)
@given(SIZES)
def test_worths_of_units_are_the_same_bits_in_every_mode(sizes: tuple[int, int, int]) -> None:
    seed, experts, count = sizes
    reading, units = reading_of(*sizes)
    rng = np.random.default_rng(seed)
    terms = [rng.lognormal(-3, 1, count), rng.lognormal(-1, 1, count), rng.lognormal(2, 2, count)]
    cosines, tensor = rng.uniform(-1, 1, (3, experts, experts)), rng.integers(0, 3, count).astype(np.int32)
    unit, bytes_ = rng.integers(-1, units, (experts, count)), rng.integers(0, 2**40, (experts, count))
    found = []
    for side in sides("omission"):
        drops, rises = np.zeros(units), np.zeros(units)
        side.certified_drops(reading, *terms, drops)
        side.expected_rises(reading, cosines, tensor, rises)
        squares = side.angled_squares(reading.error, cosines, tensor)
        found.append([drops, rises, squares, side.unit_costs(unit, bytes_, units)])
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            assert one.tobytes() == expected.tobytes()
    np.testing.assert_allclose(
        found[0][2],
        np.einsum("in,nij,jn->n", reading.error, cosines[tensor], reading.error),
        rtol=1e-9,
        atol=1e-9 * np.square(reading.error.sum(axis=0)).max(),
    )
    np.testing.assert_allclose(found[0][1].sum(), _all_rises(reading, cosines, tensor), rtol=1e-9, atol=1e-6)


def _all_rises(reading: Reading, cosines: np.ndarray, tensor: np.ndarray) -> float:
    """|the sum of all terms|^2 over blocks, where cosines count one way only."""
    total = 0.0
    for block, steps in enumerate(reading.steps):
        rows = [int(step) & ((1 << reading.row_bits) - 1) for step in steps if step >= 0]
        sizes = reading.error[:, block]
        for place, row in enumerate(rows):
            total += sizes[row] ** 2
            total += sum(
                2 * sizes[row] * sizes[j] * cosines[tensor[block], row, j] for j in rows[place + 1 :]
            )
    return total


def test_bytes_of_units_are_added_exactly() -> None:
    unit, bytes_ = np.array([[0, -1, 2], [0, 2, 2]]), np.array([[1, 5, 2**53], [2, 1, 1]])
    for side in sides("omission"):
        assert side.unit_costs(unit, bytes_, 4).tolist() == [3, 0, 2**53 + 2, 0]


def test_arrays_that_do_not_fit_are_refused() -> None:
    choices = family(3, 4, 20, shared=True)
    reading, units = reading_of(3, 4, 20)
    for side in sides("greedy"):
        if side.__name__.endswith("numpy"):
            continue
        far = np.full(20, 5)  # there are five tensors
        with pytest.raises(ValueError, match="cosines"):
            side.towards(choices.error, choices.similarity, far, np.empty((4, 20)))
        with pytest.raises(ValueError, match="a row a"):
            side.walk(
                choices, choices.error, np.ones(20), np.empty((2, 20), np.int32), np.ones(40), np.ones(59)
            )
        with pytest.raises(ValueError, match="as many"):
            side.hull(
                np.zeros((2, 3), np.int32), np.ones(6), np.ones(5), np.zeros(6, np.int32), np.zeros(3, int)
            )
    for side in sides("omission"):
        if side.__name__.endswith("numpy"):
            continue
        with pytest.raises(ValueError, match="a term"):
            side.certified_drops(reading, np.ones(19), np.ones(20), np.ones(20), np.zeros(units))
        with pytest.raises(ValueError, match="cosines"):
            side.expected_rises(reading, np.ones((1, 4, 4)), np.ones(20, np.int32), np.zeros(units))
        with pytest.raises(ValueError, match="bytes"):
            side.unit_costs(np.zeros(3, np.int64), np.zeros(2, np.int64), 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0]))),
    st.sampled_from([1.0, 1 + 2.0**-52, 1 + 2.0**-40]),
)
def test_ranks_are_those_of_a_stable_sort(values: list[float], close: float) -> None:
    array = np.array([*values, *(value / 4 * close for value in values)], np.float64)
    for side in sides("ranks"):
        np.testing.assert_array_equal(np.argsort(side.ranks(array)), np.argsort(-array, kind="stable"))


def test_ranks_tell_values_apart_whose_leading_digits_are_the_same() -> None:
    rng = np.random.default_rng(0)
    last_digits = rng.integers(0, 3000, 20_000) * 2.0**-52
    array = (1.0 + last_digits) * rng.choice([1.0, 2.0, -1.0], 20_000)
    for side in sides("ranks"):
        np.testing.assert_array_equal(np.argsort(side.ranks(array)), np.argsort(-array, kind="stable"))
