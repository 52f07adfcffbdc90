"""Kernels over sketches and ids: every mode finds what a plain loop finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import sides


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([1, 3, 4, 9, 130]), st.sampled_from([1, 7, 32])
)
def test_sums_over_sketches_are_exact(seed: int, experts: int, count: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = [rng.integers(-127, 128, (200, width)).astype(np.int8) for _ in range(experts)]
    vectors[int(rng.integers(experts))][::3] = -127
    some = [None if rng.random() < 0.2 else one for one in vectors]
    rows = np.sort(rng.choice(200, count, replace=False))
    scale = rng.integers(0, 2**13, (experts, count)).astype(np.float64)
    taken = [np.zeros((count, width), int) if one is None else one[rows].astype(int) for one in some]
    terms = [(one * own[:, None].astype(int)).reshape(-1) for one, own in zip(taken, scale, strict=True)]
    for side in sides("sketches"):
        assert side.squares(some, rows, width).tolist() == [(one**2).sum(axis=1).tolist() for one in taken]
        expected = [[int(one @ other) for other in terms] for one in terms]
        assert side.products(some, rows, width, scale).astype(int).tolist() == expected


def id_table(seed: int, rows: int, close: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (rows, 32), sorted, some of them twice and some with the prefix of others; prefix and suffix."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 256, (rows, 32), np.uint8)
    if close:
        ids[:, :7] = 7
    ids[1::5, :8] = ids[: len(ids[1::5]), :8]
    ids[2::7] = ids[: len(ids[2::7])]
    ids = ids[np.argsort(ids[:, :8].copy().view(">u8")[:, 0], kind="stable")]
    prefix = ids[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
    return ids, prefix, np.ascontiguousarray(ids[:, 8:])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2, 3, 50, 600]), st.booleans())
def test_rows_of_ids_are_the_first_with_the_whole_id(seed: int, rows: int, close: bool) -> None:
    ids, prefix, suffix = id_table(seed, rows, close)
    rng = np.random.default_rng(seed + 1)
    strangers = rng.integers(0, 256, (20, 32), np.uint8)
    halves = ids[:20].copy()
    halves[:, -1] ^= 1
    group = np.concatenate([ids[::-1], strangers, halves])
    places = {one.tobytes(): row for row, one in reversed(list(enumerate(ids)))}
    expected = [places.get(one.tobytes(), -1) for one in group]
    for side in sides("idrows"):
        first, none, second = side.find_rows(prefix, suffix, [group, group[:0], group[:5].copy()])
        assert first.tolist() == expected
        assert none.tolist() == []
        assert second.tolist() == expected[:5]
        assert side.find_few(prefix, suffix, group).tolist() == expected
        assert side.find_few(prefix, suffix, group[:0]).tolist() == []


def test_rows_of_a_table_that_is_not_sorted_are_somewhere_in_it() -> None:
    ids, prefix, suffix = id_table(5, 300, close=False)
    order = np.random.default_rng(0).permutation(300)
    for side in sides("idrows"):
        (rows,) = side.find_rows(prefix[order], suffix[order], [ids])
        for row, own in zip(rows.tolist(), ids, strict=True):
            assert row == -1 or (suffix[order][row] == own[8:]).all()
        for row, own in zip(side.find_few(prefix[order], suffix[order], ids).tolist(), ids, strict=True):
            assert row == -1 or (suffix[order][row] == own[8:]).all()


def test_what_leans_on_another_base() -> None:
    rng = np.random.default_rng(2)
    bases = rng.integers(0, 256, (40, 32), np.uint8)
    base_row = rng.integers(0, 50, 100).astype(np.uint32)
    base_row[::9] = 0xFFFFFFFF
    rows = rng.permutation(100)
    own = np.zeros((100, 32), np.uint8)
    based = base_row[rows] < 40
    own[based] = bases[base_row[rows][based]]
    other = np.flatnonzero(based)[::2]
    own[other, 31] ^= 128
    for side in sides("idrows"):
        assert np.flatnonzero(side.lean_elsewhere(base_row, bases, rows, own)).tolist() == other.tolist()


def test_rows_that_there_are_not_are_refused() -> None:
    _, prefix, suffix = id_table(5, 30, close=False)
    for side in sides("idrows"):
        if side.__name__.endswith("numpy"):
            continue
        with pytest.raises(ValueError, match="32 bytes"):
            list(side.find_rows(prefix, suffix[1:], [np.zeros((1, 32), np.uint8)]))
        with pytest.raises(ValueError, match="32 bytes"):
            side.find_few(prefix, suffix[1:], np.zeros((1, 32), np.uint8))
        with pytest.raises(ValueError, match="rows that"):
            side.lean_elsewhere(
                np.zeros(3, np.uint32), suffix[:0], np.array([3]), np.zeros((1, 32), np.uint8)
            )
    for side in sides("sketches"):
        if side.__name__.endswith("numpy"):
            continue
        with pytest.raises(ValueError, match="rows that"):
            side.squares([np.zeros((3, 4), np.int8)], np.array([3]), 4)
