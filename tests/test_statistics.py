"""Statistics: compiled kernel against reference, rows against the definition, records there and back."""

from __future__ import annotations

import dataclasses
import random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mpstore import dtypes, kernels
from mpstore.errors import DamagedError
from mpstore.kernels import statistics_numpy
from mpstore.records.model import Columns
from mpstore.statistics import (
    Collector,
    DeltaStatistics,
    Histogram,
    from_columns,
    observe,
    observe_raw,
    to_columns,
    varints,
)
from mpstore.statistics import histogram as histograms

BF16, F32 = dtypes.known("BF16"), dtypes.known("F32")


def family(n: int, seed: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(n) * 0.03
    expert = base + rng.standard_normal(n) * 3e-4 * (rng.random(n) < 0.7)
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    return base.astype(kind), expert.astype(kind)


def operands(base: np.ndarray, expert: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As kernels take them."""
    return (base, expert) if base.dtype == np.float32 else (base.view(np.uint16), expert.view(np.uint16))


def assert_kernels_agree(bases: list[np.ndarray], experts: list[np.ndarray], difference: bool) -> None:
    wanted = statistics_numpy.observe_many(bases, experts, difference)
    for mode in kernels.modes():
        kernels.select(mode)
        kernel = kernels.pick("statistics")
        for _ in range(2):  # scratch is clean again, and bins that were found to be hot are counted apart
            for ours, reference in zip(kernel.observe_many(bases, experts, difference), wanted, strict=True):
                for name, got, right in zip(ours._fields, ours, reference, strict=True):
                    assert np.asarray(got).dtype == np.asarray(right).dtype, (mode, name)
                    assert np.asarray(got).tobytes() == np.asarray(right).tobytes(), (mode, name)
    kernels.select("auto")


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 127, 129, 2047, 2048, 2049, 5000, 70001])
@pytest.mark.parametrize("difference", [True, False])
def test_compiled_kernels_give_the_bits_of_their_reference(n: int, difference: bool) -> None:
    for dtype in ("float32", "bfloat16"):
        base, expert = family(n, n, dtype)
        if n > 40:
            expert[3], base[5], expert[6] = np.nan, np.inf, -np.inf
            expert[10] = base[10] * 0 - 0.0
        own = operands(base, expert)
        assert_kernels_agree([own[0]], [own[1]], difference)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [100, 5000])
def test_equal_words_are_zeros_even_where_they_are_not_finite(dtype: str, n: int) -> None:
    """As merges have it: what base and expert share is no difference."""
    base, expert = family(n, 0, dtype)
    for share in (False, True):
        for place, odd in ((9, base[9]), (9, -np.inf), (n - 1, np.nan)):
            base[place] = odd
            other = base.copy() if share else expert
            other[place] = odd
            own = operands(base, other)
            assert_kernels_agree([own[0]], [own[1]], True)
            seen = kernels.pick("statistics").observe(*own, True)
            assert seen.nonfinite == 0
            assert int(seen.counts.sum()) == n
            assert seen.bins.max() < 0x7F80
            assert not share or seen.bins.tolist() == [0]


SIZES = (0.0, 1e-5, 3e-4, 1.0, 1e38)


@given(
    st.sampled_from(["float32", "bfloat16"]),
    st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(SIZES), st.booleans()), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 1 << 30),
)
@example("float32", [(3, 0.0, True)], False, 0)
@example("bfloat16", [(5000, 1.0, True)], False, 1)
@settings(deadline=None, max_examples=20)
def test_blocks_observed_together(dtype: str, blocks: list, difference: bool, seed: int) -> None:
    """Deltas of all sizes, and none; chunks that are the base's; NaN and infinities in one and in both."""
    rng, pairs = np.random.default_rng(seed), []
    for n, size, odd in blocks:
        base, expert = family(n, seed % 999 + n, dtype)
        with np.errstate(all="ignore"):
            expert[:] = base.astype(np.float32) + rng.standard_normal(n) * size
            expert[rng.integers(0, 5000, 3) % max(n, 1) if n else []] *= np.float32(1e-38)
        expert[:2100] = base[:2100]
        for value in (np.nan, np.inf, -0.0) if odd and n else ():
            expert[rng.integers(n)] = value
            base[(at := rng.integers(n))] = expert[at] = value
        pairs.append(operands(base, expert))
    assert_kernels_agree([base for base, _ in pairs], [expert for _, expert in pairs], difference)


def test_what_kernels_cannot_take_is_refused() -> None:
    words, wide = np.zeros(8, np.uint16), np.zeros(8, np.float32)
    for mode in kernels.modes()[1:]:
        kernels.select(mode)
        kernel = kernels.pick("statistics")
        for bases, experts in (([words], [words[:7]]), ([words], [wide]), ([words, wide], [words, wide])):
            with pytest.raises(ValueError, match="blocks of the same sizes and words"):
                kernel.observe_many(bases, experts, True)
        with pytest.raises(ValueError, match="contiguous"):
            kernel.observe(words[::2], words[::2], True)
    kernels.select("auto")


def test_row_follows_the_definition() -> None:
    base, expert = family(10_000, 1)
    delta = expert - base
    row = observe(base, expert)
    assert not row.equal
    assert row.seen.delta_sq == pytest.approx(float(np.sum(delta.astype(np.float64) ** 2)), rel=1e-12)
    assert row.seen.delta_max == np.abs(delta).max()
    assert row.seen.dot_base_delta == pytest.approx(
        float(base.astype(np.float64) @ delta.astype(np.float64)), rel=1e-9
    )
    assert row.seen.base_sq == pytest.approx(float(np.sum(base.astype(np.float64) ** 2)), rel=1e-12)
    assert int(row.seen.counts.sum()) == base.size
    wanted = np.bincount(np.abs(delta).view(np.uint32) >> 16)
    assert np.array_equal(wanted[row.seen.bins], row.seen.counts)


def test_nonfinite_elements_are_counted_and_poison_nothing() -> None:
    base, expert = family(300, 2)
    clean = observe(base[10:], expert[10:])
    expert[:4] = [np.nan, np.inf, -np.inf, np.nan]
    base[4:7] = [np.nan, np.inf, -np.inf]
    expert[7:10] = base[7:10]
    row = observe(base, expert)
    assert row.seen.nonfinite == 7
    assert row.seen.delta_sq == pytest.approx(clean.seen.delta_sq, rel=1e-12)
    assert row.seen.delta_max == clean.seen.delta_max
    assert np.isfinite([row.seen.dot_base_delta, row.seen.base_sq, row.seen.sketch_scale]).all()
    assert int(row.seen.counts[row.seen.bins >= 0x7F80].sum()) == 7


def test_equal_means_bytes_not_values() -> None:
    zero, minus = np.zeros(64, np.float32), -np.zeros(64, np.float32)
    assert observe(zero, zero).equal
    assert not observe(zero, minus).equal
    nan = np.full(64, np.nan, np.float32)
    assert observe(nan, nan.copy()).equal
    assert observe(nan, zero, difference=False).equal  # a delta checkpoint that adds nothing


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"])
def test_raw_bytes_of_every_float_dtype(dtype: str) -> None:
    kind = dtypes.known(dtype)
    base, expert = (part.astype(kind.numpy) for part in family(1000, 3))
    row = observe_raw(base.tobytes(), kind, expert.tobytes(), kind)
    delta = expert.astype(np.float32) - base.astype(np.float32)
    assert row.seen.delta_sq == pytest.approx(float(np.sum(delta.astype(np.float64) ** 2)), rel=1e-6)
    assert row.equal == (base.tobytes() == expert.tobytes())


def test_integers_say_only_whether_they_are_equal() -> None:
    kind = dtypes.known("I64")
    raw = np.arange(10).tobytes()
    assert observe_raw(raw, kind, raw, kind).equal
    row = observe_raw(raw, kind, np.arange(1, 11).tobytes(), kind)
    assert not row.equal
    assert row.seen.delta_sq == 0
    assert row.seen.counts.size == 0


def test_sketch_estimates_inner_products_without_bias() -> None:
    rng = np.random.default_rng(5)
    errors, n = [], 8192
    for _ in range(60):
        base = rng.standard_normal(n).astype(np.float32)
        common = rng.standard_normal(n)
        a = (base + common + rng.standard_normal(n)).astype(np.float32)
        b = (base + common + rng.standard_normal(n)).astype(np.float32)
        ra, rb = observe(base, a), observe(base, b)
        estimate = (
            float(ra.seen.sketch.astype(float) @ rb.seen.sketch) * ra.seen.sketch_scale * rb.seen.sketch_scale
        )
        true = float((a - base).astype(float) @ (b - base).astype(float))
        errors.append((estimate - true) / np.sqrt(ra.seen.delta_sq * rb.seen.delta_sq))
    assert abs(np.mean(errors)) < 4 / np.sqrt(32 * 60)
    assert np.std(errors) < 1.4 / np.sqrt(32)


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(1, 64))
@settings(deadline=None, max_examples=30)
def test_a_rank_lies_in_the_bin_that_claims_it(n: int, seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    magnitude = np.sort(np.abs(rng.standard_normal(n) * 10.0 ** rng.integers(-6, 6, n)).astype(np.float32))
    magnitude[: n // 3] = 0
    fine = np.bincount(magnitude.view(np.uint32) >> 16, minlength=histograms.END_BITS)
    bins = np.flatnonzero(fine)
    merged = histograms.merged(bins, fine[bins], fine[bins], most)
    assert merged.elements == n
    assert merged.edges.size <= 3 * most + 2
    assert np.array_equal(merged.over, merged.counts)
    for rank in {1, n, 1 + seed % n, max(1, n // 3)}:
        found = merged.bin_of(rank)
        bits = magnitude.view(np.uint32)
        assert int((bits < found.low_bits).sum()) == found.below
        assert found.low_bits <= int(bits[rank - 1]) < found.high_bits
        assert int(((bits >= found.low_bits) & (bits < found.high_bits)).sum()) == found.count
        assert found.below < rank <= found.below + found.count
        assert found.edge <= magnitude[rank - 1]
        assert not found.exact


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(1, 64), st.sampled_from([0, 0.01, 0.5]))
@settings(deadline=None, max_examples=30)
def test_a_rank_that_is_said_to_be_known_is_the_edge(n: int, seed: int, most: int, odd: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.abs(np.round(rng.standard_normal(n) * 9)).astype(np.float32)
    values[rng.random(n) < odd] += np.float32(1e-5)
    fine, over = (
        np.bincount(chosen.view(np.uint32) >> 16, minlength=histograms.END_BITS)
        for chosen in (values, values[values.view(np.uint32) & 0xFFFF != 0])
    )
    bins = np.flatnonzero(fine)
    merged = histograms.merged(bins, fine[bins], over[bins], most)
    values.sort()
    known = [merged.bin_of(rank) for rank in range(1, n + 1)]
    assert all(found.edge == value for found, value in zip(known, values, strict=True) if found.exact)
    if odd == 0 and most == 64:
        assert sum(found.exact for found in known) >= 0.8 * n  # what is frequent is


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_above_the_edge_of_its_bin_is_counted(dtype: str) -> None:
    base, expert = operands(*family(5000, 7, dtype))
    seen = kernels.pick("statistics").observe(base, expert, True)
    delta = statistics_numpy.to_float32(expert) - statistics_numpy.to_float32(base)
    patterns = delta.view(np.uint32) & 0x7FFFFFFF
    wanted = np.bincount(patterns[patterns & 0xFFFF != 0] >> 16, minlength=histograms.END_BITS)[seen.bins]
    assert (seen.over >= wanted).all()
    if dtype == "bfloat16":
        assert 0 < seen.over.sum() < 0.1 * base.size
        assert np.array_equal(seen.over, wanted)
    else:
        assert np.array_equal(seen.over, seen.counts)


def test_a_rank_outside_is_refused() -> None:
    histogram = Histogram(np.array([1], np.uint16), np.array([5]), np.array([5]))
    with pytest.raises(ValueError, match="rank 6 of 5"):
        histogram.bin_of(6)


@given(st.lists(st.integers(0, 2**62), max_size=50))
def test_varints_there_and_back(values: list[int]) -> None:
    data = varints.encode(np.array(values, np.int64))
    back = varints.decode(data, len(values))
    assert back is not None
    assert back.tolist() == values
    assert varints.decode(data, len(values) + 1) is None


def collected(seed: int = 0) -> DeltaStatistics:
    """Three tensors: five blocks, one block, an equal one of two blocks; rows arrive shuffled."""
    collector = Collector(64)
    rows = []
    for t, (key, n) in enumerate((("b.weight", 300), ("a.bias", 50), ("c.weight", 100))):
        base, expert = family(n, t)
        expert[min(n - 1, 70)] = np.nan
        if key == "c.weight":
            expert = base
        collector.expect(key, -(-n // 64), n)
        rows += [
            (key, i, observe(base[i * 64 : (i + 1) * 64], expert[i * 64 : (i + 1) * 64]))
            for i in range(-(-n // 64))
        ]
    random.Random(seed).shuffle(rows)
    for key, index, row in rows:
        collector.add(key, index, row)
    collector.expect("unfinished", 2, 128)
    return collector.finish(bytes(32), bytes([1]) * 32, "full")


def same(a: DeltaStatistics, b: DeltaStatistics) -> bool:
    for name in (
        f.name for f in dataclasses.fields(DeltaStatistics) if f.name not in ("histograms", "_position")
    ):
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            if x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes():
                return False
        elif x != y:
            return False
    return set(a.histograms) == set(b.histograms) and all(
        np.array_equal(h.edges, b.histograms[key].edges)
        and np.array_equal(h.counts, b.histograms[key].counts)
        and np.array_equal(h.over, b.histograms[key].over)
        for key, h in a.histograms.items()
    )


def test_order_of_arrival_leaves_no_trace_and_records_come_back() -> None:
    one, other = collected(1), collected(2)
    assert one.keys == ("a.bias", "b.weight", "c.weight")
    assert same(one, other)
    assert to_columns(one) == to_columns(other)
    assert same(from_columns(to_columns(one)), one)
    assert one.rows("b.weight") == slice(1, 6)
    assert one.rows("unfinished") == slice(0, 0)
    assert one.equal[one.rows("c.weight")].all()
    assert set(one.histograms) == {"b.weight", "c.weight"}
    assert one.nonfinite.sum() == 2
    assert one.sketch.shape == (len(one.equal), 32)


@pytest.mark.parametrize(
    "column", ["blocks", "equal", "delta_sq", "sketch", "nonfinite", "bins", "edges", "counts", "base_sq"]
)
def test_a_record_that_contradicts_itself_is_damaged(column: str) -> None:
    record = to_columns(collected())
    kind, shape, data = record.arrays[column]
    for lie in ((kind, shape, data[:-1]), (kind, (shape[0] + 1, *shape[1:]), data), ("<f2", shape, data)):
        with pytest.raises(DamagedError):
            from_columns(Columns(record.purpose, record.meta, {**record.arrays, column: lie}))
    with pytest.raises(DamagedError):
        from_columns(
            Columns(record.purpose, record.meta, {k: v for k, v in record.arrays.items() if k != column})
        )


def test_a_record_from_before_overs_were_counted_is_read() -> None:
    one = collected()
    record = to_columns(one)
    old = from_columns(
        Columns(record.purpose, record.meta, {k: v for k, v in record.arrays.items() if k != "over"})
    )
    for key, histogram in old.histograms.items():
        assert np.array_equal(histogram.counts, one.histograms[key].counts)
        assert np.array_equal(histogram.over, histogram.counts)


@pytest.mark.parametrize("column", ["edges", "counts", "over"])
def test_histograms_that_do_not_add_up_are_damaged_when_asked_for(column: str) -> None:
    record = to_columns(collected())
    kind, shape, data = record.arrays[column]
    nothing = b"\x7f" * len(data) if column == "over" else bytes(len(data))
    for lie in (nothing, b"\xff" * len(data), b"\x81" + data[1:]):
        known = from_columns(
            Columns(record.purpose, record.meta, {**record.arrays, column: (kind, shape, lie)})
        )
        with pytest.raises(DamagedError, match="histogram"):
            known.histograms.get("b.weight")


def test_meta_is_checked() -> None:
    record = to_columns(collected())
    for change in ({"base": "zz"}, {"keys": ["b", "a"]}, {"kind": "odd"}, {"block_elements": 0}, {"keys": 3}):
        with pytest.raises(DamagedError):
            from_columns(Columns(record.purpose, {**record.meta, **change}, record.arrays))
    with pytest.raises(DamagedError):
        from_columns(Columns("other", record.meta, record.arrays))
