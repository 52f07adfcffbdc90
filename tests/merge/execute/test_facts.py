"""Facts: exact order statistics in one or more passes, inner products in any order of blocks."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import merge_material
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore.merge.execute import apply
from mpstore.merge.execute.facts import FactFinder, GramSum, RankSearch
from mpstore.merge.execute.reading import SpanRead
from mpstore.merge.execute.works import Works
from mpstore.statistics import observe
from mpstore.statistics.histogram import Histogram, merged


def vector(seed: int, elements: int, grain: float) -> np.ndarray:
    """Deltas with many ties (bf16 deltas have few values), zeros and some NaN."""
    rng = np.random.default_rng(seed)
    values = (np.round(rng.standard_normal(elements) / grain) * grain).astype(np.float32)
    if elements > 10 and seed % 3 == 0:
        values[rng.choice(elements, 6, replace=False)] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40]
    return values


def histogram_of(values: np.ndarray, most: int) -> Histogram:
    bins, counts = np.unique((values.view(np.uint32) & 0x7FFFFFFF) >> 16, return_counts=True)
    return merged(bins, counts.astype(np.int64), counts.astype(np.int64), most)


def found(search: RankSearch, parts: list[np.ndarray]) -> tuple[float, int]:
    """The rank's value, and how many passes it took."""
    for passes in range(1, 10):
        for part in parts:
            search.observe(part)
        value = search.conclude()
        if value is not None:
            return value, passes
    raise AssertionError("no end to the passes")


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    elements=st.integers(1, 3000),
    share=st.floats(0, 1),
    grain=st.sampled_from([1e-9, 1e-3, 0.3]),
    most=st.sampled_from([None, 1, 4, 64, 1024]),
)
def test_a_rank_is_the_exact_order_statistic(
    seed: int, elements: int, share: float, grain: float, most: int | None
) -> None:
    values = vector(seed, elements, grain)
    rank = max(1, min(elements, int(share * elements)))
    patterns = np.sort(values.view(np.uint32) & 0x7FFFFFFF)
    expected = patterns[rank - 1 : rank].view(np.float32)[0]
    histogram = None if most is None else histogram_of(values, most)
    value, _ = found(RankSearch(rank, elements, histogram), np.array_split(values, 3))
    assert np.float32(value).tobytes() == expected.tobytes()


def test_the_statistics_bin_makes_one_pass_enough() -> None:
    values = vector(1, 1 << 16, 1e-9)
    row = observe(np.zeros_like(values), values)
    assert row is not None
    search = RankSearch(50_000, values.size, histogram_of(values, 1024))
    assert found(search, [values])[1] == 1
    many = np.tile(vector(1, 1 << 12, 1e-9), 300)
    heavy = many.copy()
    heavy[: many.size * 9 // 10] = 0
    for large in (many, heavy):  # more than are collected
        rank = large.size * 4 // 5
        expected = np.sort(np.abs(large))[rank - 1]
        assert found(RankSearch(rank, large.size, histogram_of(large, 1024)), [large]) == (expected, 1)
        assert found(RankSearch(rank, large.size, None), [large])[1] > 1


def test_a_histogram_of_other_data_still_gives_the_exact_rank() -> None:
    values = vector(1, 5000, 1e-6)
    wrong = histogram_of(vector(2, 5000, 1e-6) * np.float32(1000), 64)
    value, _ = found(RankSearch(2500, 5000, wrong), [values])
    assert value == np.sort(np.abs(values))[2499]


def test_zeros_that_are_not_read_count() -> None:
    values = np.array([3.0, -2.0, 1.0], np.float32)
    for histogram in (None, histogram_of(np.concatenate([values, np.zeros(5, np.float32)]), 16)):
        for rank, expected in ((1, 0.0), (5, 0.0), (6, 1.0), (8, 3.0)):
            search = RankSearch(rank, 8, histogram)
            for _ in range(5):
                search.observe_zeros(5)
                search.observe(values)
                value = search.conclude()
                if value is not None:
                    break
            assert value == expected


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([64, 128, 1024]), st.integers(1, 2000))
def test_invariant_08_inner_products_do_not_show_blocks_or_order(
    seed: int, block: int, elements: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal(elements).astype(np.float32) for _ in range(3)]
    whole = GramSum(3, [0])
    whole.observe(0, rows)
    count = -(-elements // block)
    cut = GramSum(3, range(count))
    for index in rng.permutation(count):
        cut.observe(int(index), [row[index * block : (index + 1) * block] for row in rows])
    assert cut.conclude().tobytes() == whole.conclude().tobytes()
    wide = np.stack(rows).astype(np.float64)
    assert np.allclose(wide @ wide.T, whole.conclude(), rtol=1e-9, atol=1e-9)


def test_nonfinite_values_stay_out_of_inner_products() -> None:
    odd = np.array([1.0, np.nan, np.inf, 2.0], np.float32)
    total = GramSum(2, [0])
    total.observe(0, [odd, None])
    assert total.conclude().tolist() == [[5.0, 0.0], [0.0, 0.0]]


def test_what_the_statistics_know_exactly_is_not_counted(tmp_path: Path) -> None:
    repo = merge_material.family(tmp_path)
    of = {name: repo.manifest(repo.commit(repo.tip(name)).manifest) for name in ("base", "e0", "e1", "e2")}
    known = counted = 0
    for work in Works(repo, merge_material.plan(repo)):
        base = repo.read_tensor(of["base"], work.key).astype(np.float32).reshape(-1)
        for place, (ranks, edges) in enumerate(zip(work.ranks, work.edges, strict=True)):
            expert = repo.read_tensor(of[f"e{place}"], work.key).astype(np.float32).reshape(-1)
            (rank,) = work.operator.ranks(work.context)[place]
            counted += bool(ranks)
            if edges and work.experts[place].stored is not None:
                known += 1
                assert edges == (np.sort(np.abs(expert - base))[rank - 1],)
    assert known > 0
    assert counted > 0


def test_what_a_pass_found_does_not_stay_in_memory(tmp_path: Path) -> None:
    """A merge has many tensors on their way: each may keep its thresholds, not what led to them."""
    repo = merge_material.family(tmp_path)
    work = next(work for work in Works(repo, merge_material.plan(repo)) if work.facts_first)
    reading = SpanRead(repo.objects, work, work.seen)
    for part in reading.parts():
        part()
    raws = list(apply.decode(repo.objects, [reading.block(block) for block in work.seen.tolist()]))
    finder = FactFinder(work)
    searches = [weakref.ref(search) for own in finder._searches for search in own if search is not None]
    assert searches
    facts = None
    while facts is None:
        for one in raws:
            finder.observe_words(one.base.raw, one.experts)
        facts = finder.conclude()
    gc.collect()
    assert [search() for search in searches] == [None] * len(searches)
