"""Distances in tiers: compiled variants make the reference's bytes, and none trusts what it decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import COMPILED
from test_kernels_bits import SIZES, bases, check_alike, check_all_modes, damaged, experts, some_that_go_on

from mpstore import kernels
from mpstore.kernels import tiers_numpy
from mpstore.kernels.bits_numpy import put_lengths, take_lengths

WORD = np.dtype("<u2")


@pytest.mark.parametrize("sign_magnitude", [True, False])
def test_tiers_are_the_references_and_come_back(sign_magnitude: bool) -> None:
    pairs = [(base, raw) for size in SIZES for base in [bases(WORD, size, size)] for raw in experts(base, 1)]
    made = check_all_modes("tiers", pairs, sign_magnitude)
    assert sum(segment is not None for segment in made) > len(pairs) // 2


@pytest.mark.parametrize("together", [False, True])
def test_few_elements_of_a_strip_that_are_far_are_coded_as_many_are(together: bool) -> None:
    pairs = [
        some_that_go_on(count, steps, together)
        for count in (1, 4, 5, 64, 65, 200)
        for steps in (1, 6, 30, 600, 5000)
    ]
    assert None not in check_all_modes("tiers", pairs, True)


def of_distances(low: int, middle: int) -> tuple[np.ndarray, np.ndarray]:
    """A block whose tiers are of so many bits, with all distances at which something changes."""
    near, far = 1 << low, 1 << (low + middle)
    edges = [near, near + far, near + far + 255 * far, near + far + 256 * far, 0xFFFF]
    rng = np.random.default_rng(low)
    distance = 1 + rng.integers(0, near, 4096)
    distance[::3] = near + 1 + rng.integers(0, far, distance[::3].size)
    distance[::151] = [min(edges[k % 5] + k // 5 % 3, 0xFFFF) for k in range(distance[::151].size)]
    base = np.full(4096, 0x3F00, WORD)
    return base, tiers_numpy.undifference(distance.astype(WORD), base, True)


@pytest.mark.parametrize("low", range(tiers_numpy.MOST_LOW + 1))
@pytest.mark.parametrize("middle", range(1, tiers_numpy.MOST_BITS + 1))
def test_every_number_of_bits_of_the_two_tiers_is_coded(
    low: int, middle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an encoder chooses, decoders follow."""
    if low + middle > tiers_numpy.MOST_BITS:
        return
    monkeypatch.setattr(tiers_numpy, "choose_tiers", lambda _: (low, middle))
    base, raw = of_distances(low, middle)
    segment = np.frombuffer(tiers_numpy.encode(raw, base, True) or b"", np.uint8)
    assert segment[0] == low | middle << 4
    for mode in kernels.modes():
        kernels.select(mode)
        out = np.empty(raw.nbytes, np.uint8)
        lean = base.view(np.uint8)
        assert kernels.pick("tiers").decode_many([segment], [lean], [out], True) == [True], mode
        assert out.tobytes() == raw.tobytes(), mode


def test_who_is_calm_depends_on_the_block() -> None:
    """Large weights that do not move are calm, all are where hardly any moves, none where all do."""
    rng = np.random.default_rng(0)
    base = bases(WORD, 20_000, 5)
    large = (base & 0x7FFF) >= 0x3E80
    some, few, most = (base + (rng.random(base.size) < share).astype(WORD) for share in (0.5, 0.005, 0.9))
    some = np.where(large, base, some)
    chosen = [
        int.from_bytes(segment[2:4], "little")
        for segment in check_all_modes("tiers", [(base, some), (base, few), (base, most)], True)
        if segment is not None
    ]
    assert 0 < chosen[0] < 0x7FFF
    assert ((base & 0x7FFF) >= chosen[1]).mean() > 0.9
    assert chosen[2] == tiers_numpy.NO_CALM


def test_whether_segments_hold_blocks_is_told_without_their_bytes() -> None:
    base = bases(WORD, 3000, 1)
    raws = experts(base, 2)[1:5]
    segments = [np.frombuffer(tiers_numpy.encode(raw, base, True) or b"", np.uint8) for raw in raws]
    cut = segments[3][:-1]
    same = np.frombuffer(tiers_numpy.encode(base, base, True) or b"", np.uint8)
    for at in (0, 1023, 1024, 2048, -1):
        other, moved = raws[1].copy(), base.copy()
        other[at] ^= 1
        moved[at] ^= 1
        for mode in kernels.modes():
            kernels.select(mode)
            found = kernels.pick("tiers").hold(
                [*segments[:3], cut, same, same],
                [base.view(np.uint8)] * 6,
                [raw.view(np.uint8) for raw in (raws[0], other, raws[2], raws[3], base, moved)],
                True,
            )
            assert found == [True, False, True, False, True, False], (mode, at)


def test_a_stream_that_is_a_byte_too_long_or_too_short_is_refused() -> None:
    """With all lengths and the segment's end in accord, so that only counting what is taken tells."""
    base = bases(WORD, 3000, 1)
    segment = np.frombuffer(tiers_numpy.encode(experts(base, 2)[4], base, True) or b"", np.uint8)
    (low, middle), at = (int(segment[0]) & 15, int(segment[0]) >> 4), tiers_numpy.HEADER_BYTES
    lengths, start = take_lengths(segment, at, low + middle + 6) or ([], 0)
    assert segment[1] == 0  # no map
    assert len(lengths) == low + middle + 6
    assert lengths[-2] > 0  # bytes of far elements
    assert lengths[-1] > 0  # words of those that are farther
    for number, length in enumerate(lengths):
        end = start + sum(lengths[: number + 1])
        for change in (1, -1) if length else (1,):
            own = [*lengths[:number], length + change, *lengths[number + 1 :]]
            body = segment[start : end + min(change, 0)].tobytes() + b"\0" * max(change, 0)
            wrong = segment[:at].tobytes() + put_lengths(own) + body + segment[end:].tobytes()
            data, lean = np.frombuffer(wrong, np.uint8), base.view(np.uint8)
            for mode in kernels.modes():
                kernels.select(mode)
                out = np.empty(base.nbytes, np.uint8)
                assert kernels.pick("tiers").decode_many([data], [lean], [out], True) == [False], (
                    mode,
                    number,
                )


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_invariant_11_damaged_tiers_are_refused_or_decode_to_something(data) -> None:
    """All variants say the same of a damaged segment, and write nothing but the block."""
    base = bases(WORD, data.draw(st.sampled_from([40, 70, 1500])), 3)
    raw = experts(base, 4)[data.draw(st.integers(1, 4))]
    segment = tiers_numpy.encode(raw, base, True)
    if segment is None:
        return
    wrong, lean = damaged(segment, data.draw), base.view(np.uint8)
    check_alike("tiers", lean.size, lambda family, out: family.decode_many([wrong], [lean], [out], True))


@pytest.mark.parametrize("mode", COMPILED)
def test_tiers_refuse_arrays_that_do_not_fit(mode: str) -> None:
    kernels.select(mode)
    tiers, raw = kernels.pick("tiers"), np.zeros(64, np.uint8)
    for size in (63, 66, 0):
        wrong = np.zeros(size, np.uint8)
        with pytest.raises(ValueError, match=r".+"):
            tiers.encode_many([raw], [wrong], True)
        with pytest.raises(ValueError, match=r".+"):
            tiers.decode_many([raw], [raw], [wrong], True)
        with pytest.raises(ValueError, match=r".+"):
            tiers.hold([raw], [raw], [wrong], True)
