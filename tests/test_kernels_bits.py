"""Rice and prefix codes: compiled variants make the reference's bytes, and none trusts what it decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import COMPILED

from mpstore import kernels
from mpstore.kernels import prefix_numpy, rice_numpy
from mpstore.kernels.bits_numpy import put_lengths, take_lengths
from mpstore.kernels.prefix_numpy import PrefixShape
from mpstore.kernels.rice_numpy import RiceShape

SIZES = (1, 63, 64, 65, 1023, 1024, 1025, 5000, 17000)
RICE = {
    "bf16": RiceShape(np.dtype("<u2"), True, 0x7FFF, 7),
    "f16": RiceShape(np.dtype("<u2"), True, 0x7FFF, 10),
    "i16": RiceShape(np.dtype("<u2"), False, 0, 0),
    "f8": RiceShape(np.dtype("u1"), True, 0x7F, 3),
    "f32": RiceShape(np.dtype("<u4"), True, 0x7FFFFFFF, 23),
    "f64": RiceShape(np.dtype("<u8"), True, (1 << 63) - 1, 52),
}
PREFIX = {
    "bf16": PrefixShape(np.dtype("<u2"), 8),
    "f16": PrefixShape(np.dtype("<u2"), 11),
    "f8": PrefixShape(np.dtype("u1"), 4),
    "f32": PrefixShape(np.dtype("<u4"), 24),
    "f64": PrefixShape(np.dtype("<u8"), 56),
}


def bases(dtype: np.dtype, size: int, seed: int) -> np.ndarray:
    """Words like weights, of any width, some odd ones among them."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(size) * np.exp(rng.standard_normal(size))
    words = {1: values.astype(np.float32).view("<u4") >> 24, 2: values.astype(np.float32).view("<u4") >> 16}
    words |= {4: values.astype(np.float32).view("<u4"), 8: values.view("<u8")}
    made = words[dtype.itemsize].astype(dtype)
    made[rng.integers(0, size, size // 50)] = np.iinfo(dtype).max
    return made


def experts(base: np.ndarray, seed: int) -> list[np.ndarray]:
    """A block beside its base: the same, moved a little everywhere, here and there, in runs, by much,
    and nothing like it."""
    rng = np.random.default_rng(seed)
    size, dtype = base.size, base.dtype
    runs = np.repeat(rng.random(-(-size // 700)) < 0.3, 700)[:size]
    geometric = rng.geometric(0.1, size).astype(dtype)
    wide = rng.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    return [
        base.copy(),
        base + rng.integers(0, 3, size).astype(dtype),
        base + (rng.random(size) < 0.03).astype(dtype),
        np.where(runs, base + geometric, base),
        np.where(rng.random(size) < 0.02, wide, base + geometric),
        wide,
    ]


def check_all_modes(name: str, pairs: list[tuple[np.ndarray, np.ndarray]], how: object) -> list[bytes | None]:
    """All variants make the same segments of (base, block) pairs, and the blocks again from these."""
    raws, leans = [raw.view(np.uint8) for _, raw in pairs], [base.view(np.uint8) for base, _ in pairs]
    kernels.select("numpy")
    expected: list[bytes | None] = kernels.pick(name).encode_many(raws, leans, how)
    kept = [k for k, segment in enumerate(expected) if segment is not None]
    segments = [np.frombuffer(expected[k], np.uint8) for k in kept]
    for mode in kernels.modes():
        kernels.select(mode)
        family = kernels.pick(name)
        assert family.encode_many(raws, leans, how) == expected, mode
        outs = [np.empty_like(raws[k]) for k in kept]
        assert all(family.decode_many(segments, [leans[k] for k in kept], outs, how)), mode
        for out, k in zip(outs, kept, strict=True):
            assert out.tobytes() == raws[k].tobytes(), (mode, k)
    return expected


@pytest.mark.parametrize("name", list(RICE))
def test_rice_codes_are_the_references_and_come_back(name: str) -> None:
    shape = RICE[name]
    pairs = [
        (base, raw) for size in SIZES for base in [bases(shape.dtype, size, size)] for raw in experts(base, 1)
    ]
    made = check_all_modes("rice", pairs, shape)
    assert sum(segment is not None for segment in made) > len(pairs) // 2


def some_that_go_on(count: int, steps: int, together: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two strips' words near their base; `count` of a strip lie so many steps away, one by one or in the same
    groups, and as many have a base so small that they have many low bits."""
    rng = np.random.default_rng(count)
    base = (0x3F80 + rng.integers(0, 128, 2048)).astype("<u2")
    raw = base + rng.integers(0, 2, 2048).astype("<u2")
    for strip in (0, 1024):
        places = strip + (np.arange(2 * count) if together else rng.permutation(1024)[: 2 * count])
        raw[places[::2]] = base[places[::2]] + steps
        base[places[1::2]] = 0x3C80
        raw[places[1::2]] = 0x3C80 + rng.integers(0, 300, count)
    return base, raw


@pytest.mark.parametrize("together", [False, True])
def test_few_elements_of_a_strip_that_go_on_are_coded_as_many_are(together: bool) -> None:
    shape = RICE["bf16"]
    pairs = [
        some_that_go_on(count, steps, together)
        for count in (1, 4, 5, 39, 40, 41, 62, 63, 64, 65, 200)
        for steps in (1, 4, 6, 7, 12, 13, 30, 600)
    ]
    assert None not in check_all_modes("rice", pairs, shape)


@pytest.mark.parametrize("name", list(PREFIX))
def test_prefix_codes_are_the_references_and_come_back(name: str) -> None:
    shape = PREFIX[name]
    words = [made for size in SIZES for base in [bases(shape.dtype, size, size)] for made in experts(base, 2)]
    words += [np.full(2000, value, shape.dtype) for value in (0, 1, np.iinfo(shape.dtype).max)]
    raws = [own.view(np.uint8) for own in words]
    expected = prefix_numpy.split_many(raws, shape)
    parts = (
        [np.frombuffer(one.symbols, np.uint8) for one in expected],
        [list(one.planes) for one in expected],
        [np.frombuffer(one.odd, np.uint8) for one in expected],
    )
    for mode in kernels.modes():
        kernels.select(mode)
        family = kernels.pick("prefix")
        for one, other in zip(family.split_many(raws, shape), expected, strict=True):
            assert (one.symbols, one.promising, one.odd) == (other.symbols, other.promising, other.odd), mode
            assert one.planes.tobytes() == other.planes.tobytes()
        outs = [np.empty_like(raw) for raw in raws]
        assert all(family.join_many(*parts, outs, shape)), mode
        assert all(out.tobytes() == raw.tobytes() for out, raw in zip(outs, raws, strict=True)), mode


def test_a_strips_words_are_sampled_and_rare_symbols_escape() -> None:
    """A block so large that only a part of it is counted, with symbols that the sample lacks."""
    words = np.full(40 * 1024, 0x3F80, "<u2")
    words[3000:3100] = np.arange(100) * 300  # strip 2: not counted
    shape = PREFIX["bf16"]
    split = prefix_numpy.split(words, shape)
    for mode in kernels.modes():
        kernels.select(mode)
        assert kernels.pick("prefix").split_many([words.view(np.uint8)], shape)[0].symbols == split.symbols
    assert len(split.symbols) < 0.2 * words.size


def damaged(data: bytes, draw) -> np.ndarray:
    """A segment cut, lengthened, or with some bytes changed."""
    words = bytearray(data)
    kind = draw(st.sampled_from(["cut", "longer", "bytes", "head"]))
    if kind == "cut":
        return np.frombuffer(bytes(words[: draw(st.integers(0, len(words) - 1))]), np.uint8)
    if kind == "longer":
        return np.frombuffer(bytes(words) + draw(st.binary(min_size=1, max_size=20)), np.uint8)
    limit = 60 if kind == "head" else len(words)
    for _ in range(draw(st.integers(1, 4))):
        words[draw(st.integers(0, min(limit, len(words)) - 1))] = draw(st.integers(0, 255))
    return np.frombuffer(bytes(words), np.uint8)


@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_invariant_11_damaged_rice_codes_are_refused_or_decode_to_something(data) -> None:
    """All variants say the same of a damaged segment, and write nothing but the block."""
    shape = RICE[data.draw(st.sampled_from(["bf16", "f8", "f32"]))]
    base = bases(shape.dtype, data.draw(st.sampled_from([40, 1500])), 3)
    raw = experts(base, 4)[data.draw(st.integers(1, 4))]
    segment = rice_numpy.encode(raw, base, shape)
    if segment is None:
        return
    wrong = damaged(segment, data.draw)
    lean = base.view(np.uint8)
    check_alike("rice", lean.size, lambda family, out: family.decode_many([wrong], [lean], [out], shape))


@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_invariant_11_damaged_prefix_codes_are_refused_or_decode_to_something(data) -> None:
    shape = PREFIX[data.draw(st.sampled_from(["bf16", "f16", "f32"]))]
    split = prefix_numpy.split(bases(shape.dtype, data.draw(st.sampled_from([40, 1500])), 3), shape)
    size = split.planes.shape[1] * shape.dtype.itemsize
    wrong = damaged(split.symbols, data.draw)
    odd = np.frombuffer(split.odd, np.uint8)
    planes = [list(split.planes)]
    check_alike("prefix", size, lambda family, out: family.join_many([wrong], planes, [odd], [out], shape))


def check_alike(name: str, size: int, decode) -> None:
    """`decode` of every variant fills the same `size` bytes and none beside them."""
    answers = []
    for mode in kernels.modes():
        kernels.select(mode)
        fence = np.full(size + 128, 0xA5, np.uint8)
        out = fence[64 : 64 + size]
        whole = decode(kernels.pick(name), out)
        assert (fence[:64] == 0xA5).all()
        assert (fence[64 + size :] == 0xA5).all()
        answers.append((whole, out.tobytes() if all(whole) else b""))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("mode", COMPILED)
def test_kernels_refuse_arrays_that_do_not_fit(mode: str) -> None:
    kernels.select(mode)
    rice, prefix = kernels.pick("rice"), kernels.pick("prefix")
    raw = np.zeros(64, np.uint8)
    for wrong in (
        np.zeros(63, np.uint8),
        np.zeros(66, np.uint8),
        np.zeros(128, np.uint8)[::2],
        np.zeros(0, np.uint8),
    ):
        with pytest.raises(ValueError, match=r".+"):
            rice.encode_many([raw], [wrong], RICE["bf16"])
        with pytest.raises(ValueError, match=r".+"):
            rice.decode_many([raw], [raw], [wrong], RICE["bf16"])
    with pytest.raises(ValueError, match=r".+"):
        prefix.split_many([np.zeros(63, np.uint8)], PREFIX["bf16"])
    with pytest.raises(ValueError, match=r".+"):
        prefix.join_many(
            [raw], [[np.zeros(31, np.uint8)]], [np.zeros(0, np.uint8)], [raw.copy()], PREFIX["bf16"]
        )


@given(st.lists(st.integers(0, 1 << 34), max_size=20))
def test_lengths_come_back(lengths: list[int]) -> None:
    data = np.frombuffer(put_lengths(lengths) + b"x", np.uint8)
    assert take_lengths(data, 0, len(lengths)) == (lengths, data.size - 1)
    assert take_lengths(data[:-1], 0, len(lengths) + 1) is None
