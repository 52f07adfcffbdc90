"""SHA-256 of every kernel: hashlib's digests, however the bytes are cut."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import sides

from mpstore import kernels
from mpstore.kernels import native

SIZES = (0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 128, 1023, 1024, 1025, 1600, 2048, 5000, 70_001)


def hashes() -> list[Any]:
    """A hash of every kind there is here."""
    made = [module.sha256() for module in sides("sha256")]
    for mode in kernels.modes()[1:]:
        kernels.select(mode)
        if kernels.pick("sha256").lanes() > 1:
            made.append(kernels.pick("sha256").WideSha256())
    return made


def library_of_sha256() -> Any:
    """The compiled variant that hashes here, which not every processor has."""
    for library in native.variants().values():
        if hasattr(library, "sha256_lanes") and library.sha256_lanes() > 1:
            return library
    pytest.skip("hashlib is the faster on this processor")


@pytest.mark.parametrize("size", SIZES)
def test_any_size(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    expected = hashlib.sha256(data.tobytes())
    for own in hashes():
        own.update(data.data)
        assert own.digest() == expected.digest()
        assert own.hexdigest() == expected.hexdigest()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(0, 1 << 30))
def test_pieces_of_any_sizes(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected, own = hashlib.sha256(), hashes()
    for size in sizes:
        piece = rng.integers(0, 256, size, np.uint8).tobytes()
        expected.update(piece)
        for one in own:
            one.update(piece)
            assert one.digest() == expected.digest()  # and it goes on after that


def test_sums_that_overflow() -> None:
    for own in hashes():
        own.update(b"\xff" * 4096)
        assert own.digest() == hashlib.sha256(b"\xff" * 4096).digest()


def test_what_the_kernel_does_not_take() -> None:
    library = library_of_sha256()
    state = np.zeros(8, np.uint32)
    for words, data in ((state, bytes(63)), (np.zeros(7, np.uint32), bytes(64)), (state.view(np.uint8), b"")):
        with pytest.raises(ValueError, match=r"whole blocks|an array of items"):
            library.sha256_blocks(words, data)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3000)), max_size=40), st.integers(0, 1 << 30))
def test_several_hashes_go_on_together(sizes: list[tuple[int, int]], seed: int) -> None:
    """Of any number and any sizes, each from wherever it stands."""
    rng = np.random.default_rng(seed)
    firsts = [rng.integers(0, 256, first, np.uint8).tobytes() for first, _ in sizes]
    seconds = [rng.integers(0, 256, second, np.uint8).tobytes() for _, second in sizes]
    expected = [hashlib.sha256(a + b).digest() for a, b in zip(firsts, seconds, strict=True)]
    for module in sides("sha256"):
        assert module.lanes() >= 1
        own = [module.sha256() for _ in sizes]
        module.together(own, firsts)
        module.together(own, seconds)
        assert [one.digest() for one in own] == expected
    library = native.variants().get("v4")
    if library is None:
        return
    kernels.select("v4")
    module = kernels.pick("sha256")
    wide = [module.WideSha256() for _ in sizes]
    module.together(wide, firsts)
    module.together(wide, seconds)
    assert [one.digest() for one in wide] == expected


def test_what_the_kernel_of_several_does_not_take() -> None:
    library = library_of_sha256()
    state = np.zeros(8, np.uint32)
    for states, pieces in (([state], [bytes(63)]), ([state], []), ([state[:7].copy()], [bytes(64)])):
        with pytest.raises(ValueError, match="whole blocks"):
            library.sha256_together(states, pieces)
