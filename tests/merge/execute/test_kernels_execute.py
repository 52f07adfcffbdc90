"""The executor's kernels: every mode gives the same bits, and these are the bits of IEEE rounding."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_modes import sides

PATTERNS = st.integers(0, 2**32 - 1)
ODD = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x00000001, 0x477FF000, 0x38800000]
VECTORS = hnp.arrays(
    np.uint32,
    st.one_of(st.integers(1, 200), st.sampled_from([511, 512, 1030])),
    elements=st.one_of(PATTERNS, st.sampled_from(ODD)),
)


def floats(patterns: np.ndarray) -> np.ndarray:
    return patterns.view(np.float32)


def run(name: str, *inputs: object, out: np.ndarray) -> np.ndarray:
    """Run the kernel in every mode; the results must agree. Returns the filled array."""
    outs, results = [], []
    for side in sides("execute"):
        outs.append(out.copy())
        results.append(getattr(side, name)(*inputs, outs[-1]))
    for other, result in zip(outs, results, strict=True):
        assert result == results[0]
        count = result if name == "collect_magnitudes" else out.size  # what lies behind is nobody's
        assert other[:count].tobytes() == outs[0][:count].tobytes()
    return outs[0]


@pytest.mark.parametrize("name", ["widen_bf16", "widen_f16"])
def test_widening_every_pattern(name: str) -> None:
    words = np.arange(65536, dtype=np.uint16)
    wide = run(name, words, out=np.empty(65536, np.float32))
    kind = ml_dtypes.bfloat16 if name == "widen_bf16" else np.float16
    expected = words.view(kind).astype(np.float32)
    finite = ~np.isnan(expected)
    assert (wide[finite] == expected[finite]).all()
    assert np.isnan(wide[~finite]).all()


@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_what_was_widened_narrows_to_itself(name: str) -> None:
    words = np.arange(65536, dtype=np.uint16)
    wide = run(f"widen_{name}", words, out=np.empty(65536, np.float32))
    for base in (wide, np.zeros_like(wide)):
        back = run(f"narrow_{name}", wide, base, out=np.empty(65536, np.uint16))
        unmoved = (wide == base) & (base is not wide)
        assert (back[~unmoved] == words[~unmoved]).all()


@settings(deadline=None)
@given(VECTORS)
def test_narrowing_rounds_to_nearest_even(patterns: np.ndarray) -> None:
    values = floats(patterns)
    base = np.full_like(values, 123.0)
    for name, kind in (("narrow_bf16", ml_dtypes.bfloat16), ("narrow_f16", np.float16)):
        words = run(name, values, base, out=np.empty(values.size, np.uint16))
        with np.errstate(all="ignore"):
            expected = values.astype(kind)
        number = ~np.isnan(values)
        assert (words.view(kind)[number] == expected[number]).all()
        assert np.isnan(words.view(kind)[~number].astype(np.float32)).all()


@settings(deadline=None)
@given(VECTORS, st.randoms(use_true_random=False))
def test_differences_are_zero_where_equal(patterns: np.ndarray, random: object) -> None:
    values = floats(patterns)
    base = values.copy()
    base[:: random.randint(2, 5)] = 1.5  # type: ignore[attr-defined]
    delta = run("difference", values, base, out=np.empty_like(values))
    equal = (values == base) | (values.view(np.uint32) == base.view(np.uint32))
    assert (delta[equal].view(np.uint32) == 0).all()
    with np.errstate(all="ignore"):
        expected = values - base
    moved = ~equal
    assert np.array_equal(delta[moved], expected[moved], equal_nan=True)
    words = (patterns >> 16).astype(np.uint16)
    run("difference_bf16", words, base, out=np.empty_like(values))
    run("difference_f16", words, base, out=np.empty_like(values))


@settings(deadline=None)
@given(VECTORS)
def test_settling_keeps_the_bits_of_what_did_not_move(patterns: np.ndarray) -> None:
    base = floats(patterns)
    with np.errstate(all="ignore"):
        values = base + np.float32(0)  # -0.0 becomes 0.0, NaN may become another
    out = run("settle", values, base, out=np.empty_like(values))
    assert out.tobytes() == base.tobytes()


@settings(deadline=None)
@given(VECTORS, st.integers(0, 12), st.integers(1, 300))
def test_counting_patterns(patterns: np.ndarray, shift: int, size: int) -> None:
    magnitudes = (patterns & 0x7FFFFFFF).astype(np.int64)
    low = int(magnitudes[0]) - min(int(magnitudes[0]), 5)
    counts = run("count_magnitudes", floats(patterns), low, shift, out=np.zeros(size, np.uint32))
    for j in range(size):
        first = low + (j << shift)
        assert counts[j] == ((magnitudes >= first) & (magnitudes < first + (1 << shift))).sum()


@settings(deadline=None)
@given(VECTORS, PATTERNS, PATTERNS)
def test_collecting_patterns(patterns: np.ndarray, one: int, other: int) -> None:
    low, high = sorted((one & 0x7FFFFFFF, other & 0x7FFFFFFF))
    out = run("collect_magnitudes", floats(patterns), low, high, out=np.zeros(patterns.size, np.uint32))
    magnitudes = patterns & 0x7FFFFFFF
    expected = magnitudes[(magnitudes >= low) & (magnitudes < high)]
    assert (out[: expected.size] == expected).all()


@settings(deadline=None)
@given(VECTORS)
def test_dots_of_chunks(patterns: np.ndarray) -> None:
    a = np.nan_to_num(floats(patterns), nan=1.0, posinf=2.0, neginf=-2.0)
    a = np.clip(a, -1e15, 1e15).astype(np.float32)
    b = a[::-1].copy()
    sums = run("dot_chunks", a, b, out=np.empty(-(-a.size // 64), np.float64))
    expected = [np.dot(a[s : s + 64].astype(np.float64), b[s : s + 64]) for s in range(0, a.size, 64)]
    assert np.allclose(sums, expected, rtol=1e-9, atol=1e-12 * float(np.abs(a).max()) ** 2)
