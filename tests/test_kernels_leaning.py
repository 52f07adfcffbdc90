"""BLAKE3 in C is BLAKE3; blocks merged at once are those of decoding and merging one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import COMPILED

from mpstore import kernels
from mpstore.codecs import Format
from mpstore.ids import block_id
from mpstore.kernels import merge_words_numpy, native
from mpstore.kernels.leaning_numpy import Blocks
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_numpy import Sources
from mpstore.store import leaning_kind
from tests.store_material import frame_of

SIZE = 3000


def hashed(data: bytes) -> bytes:
    library = native.library()
    out = bytearray(32)
    library.blake3_hash(data, np.empty(library.blake3_room(len(data)), np.uint8), out)
    return bytes(out)


@pytest.mark.parametrize("mode", COMPILED)
def test_hashes_are_those_of_the_package(mode: str) -> None:
    kernels.select(mode)
    data = np.random.default_rng(0).integers(0, 256, 70_000, np.uint8).tobytes()
    edges = {chunks * 1024 + more for chunks in range(40) for more in (-1, 0, 1, 63, 64, 65)}
    for size in sorted(size for size in edges | {0, 1, 65536, 69_999} if size >= 0):
        assert hashed(data[:size]) == blake3(data[:size]).digest(), size


@pytest.mark.parametrize("mode", COMPILED)
@settings(max_examples=10)
@given(size=st.integers(0, 300_000), seed=st.integers(0, 9))
def test_hashes_of_any_size(mode: str, size: int, seed: int) -> None:
    kernels.select(mode)
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    assert hashed(data) == blake3(data).digest()


def test_several_are_hashed_in_one_call() -> None:
    sizes = (5000, 0, 1, 262_144, 1024)
    messages = [np.random.default_rng(size).integers(0, 256, size, np.uint8) for size in sizes]
    expected = [blake3(message.tobytes()).digest() for message in messages]
    for mode in kernels.modes():
        kernels.select(mode)
        assert kernels.pick("blake3").block_ids(messages) == expected, mode
        assert kernels.pick("blake3").block_ids([]) == [], mode


def test_a_hash_without_room_is_refused() -> None:
    for room, out in ((np.empty(8, np.uint8), bytearray(32)), (np.empty(9000, np.uint8), bytearray(31))):
        with pytest.raises(ValueError, match="room"):
            native.library().blake3_hash(b"abc" * 1000, room, out)
        with pytest.raises(ValueError, match="room"):
            native.library().blake3_hash_many([b"abc" * 1000], room, out)


def block(seed: int, half: bool) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(SIZE)
    words = values.astype("<f2").view("<u2") if half else values.astype("<f4").view("<u4") >> 16
    return words.astype("<u2")


def terms_of(experts: int, random: bool, elect: bool) -> Terms:
    rng = np.random.default_rng(experts)
    return Terms(
        weight=rng.uniform(0.2, 1, experts).astype(np.float32),
        scale=np.ones(experts, np.float32),
        low=np.full(experts, 0.001, np.float32),
        high=np.full(experts, np.inf, np.float32),
        key=rng.integers(0, 1 << 62, experts, np.uint64),
        keep=np.full(experts, 1 << 52, np.uint64),
        random=random,
        elect=elect,
        normalize=elect,
        divisor=np.float32(1),
        factor=np.float32(1),
        base_scale=np.float32(1),
    )


class Case:
    """Some blocks of a merge: bases, experts' words, and all as kernels take it."""

    def __init__(self, blocks: int, experts: int, half: bool) -> None:
        rng = np.random.default_rng(1)
        form = Format.F16 if half else Format.BF16
        self.half, self.kind = half, leaning_kind(int(form))
        self.bases = [block(seed, half) for seed in range(blocks)]
        self.experts = [
            [base + rng.integers(0, 2 + e, SIZE).astype("<u2") for e in range(experts)] for base in self.bases
        ]
        self.plain = np.arange(experts) == 1
        self.starts = [SIZE * k for k in range(blocks)]
        own = [
            (frame_of(raw, base, form), block_id(raw.tobytes()))
            for base, raws in zip(self.bases, self.experts, strict=True)
            for raw in raws
        ]
        self.given = Blocks(
            [data for data, _ in own],
            b"".join(own_id for _, own_id in own),
            [base.view(np.uint8) for base in self.bases],
            b"".join(block_id(base.tobytes()) for base in self.bases),
            self.plain,
            self.starts,
        )

    def expected(self, terms: Terms) -> list[tuple[bytes, list[int]]]:
        made = []
        for base, items, start in zip(self.bases, self.experts, self.starts, strict=True):
            out = np.empty(SIZE, np.uint16)
            odd = merge_words_numpy.combine(Sources(base, items, self.plain, self.half), terms, start, out)
            made.append((out.tobytes(), odd.tolist()))
        return made


@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("random", "elect"), [(False, False), (False, True), (True, True)])
def test_blocks_merged_at_once_are_those_of_one_step_after_the_other(
    mode: str, half: bool, random: bool, elect: bool
) -> None:
    kernels.select(mode)
    case, terms = Case(3, 4, half), terms_of(4, random, elect)
    for verify in (True, False):
        made = kernels.pick("leaning").merge(case.given, case.kind, terms, half, verify)
        assert [(one.raw.tobytes(), one.nonfinite) for one in made] == case.expected(terms)
        assert [one.id for one in made] == [block_id(one.raw.tobytes()) for one in made]


@pytest.mark.parametrize("mode", COMPILED)
def test_a_block_with_an_odd_frame_is_left_to_others(mode: str) -> None:
    kernels.select(mode)
    case, terms = Case(3, 2, False), terms_of(2, False, False)
    family = kernels.pick("leaning")
    for place in range(len(case.given.frames[2])):
        data = bytearray(case.given.frames[2])  # the second block's first expert
        data[place] ^= 1 << place % 8
        given = case.given._replace(frames=[*case.given.frames[:2], bytes(data), *case.given.frames[3:]])
        first, second, third = family.merge(given, case.kind, terms, False, True)
        assert first is not None
        assert third is not None
        assert second is None or second.raw.tobytes() == case.expected(terms)[1][0]
    wrong = case.given._replace(base_ids=bytes(96))
    assert family.merge(wrong, case.kind, terms, False, False) == [None] * 3


def test_more_experts_than_there_is_room_for_go_the_other_way() -> None:
    case = Case(1, 65, False)
    assert kernels.pick("leaning").merge(case.given, case.kind, terms_of(65, False, False), False, True) == [
        None
    ]


def test_without_compiled_kernels_nothing_is_merged_at_once() -> None:
    kernels.select("numpy")
    case = Case(2, 2, False)
    assert kernels.pick("leaning").merge(case.given, case.kind, terms_of(2, False, False), False, True) == [
        None,
        None,
    ]
