"""SHA-256 beside whoever reads: hashlib's digests, however many files stream by and however they are cut."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import hashing, kernels
from mpstore.hashing import Hashing, Stopped

LARGE = 64 << 10  # pieces of this size and more go into lanes


@pytest.fixture(params=kernels.modes(), autouse=True)
def _every_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    kernels.select(request.param)
    yield
    kernels.select("auto")


def threads() -> int:
    return sum(thread.name.startswith("mp-sha256") for thread in threading.enumerate())


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def bring(
    together: Hashing, data: bytes, cuts: list[int], told: bool, found: dict[int, bytes], key: int
) -> None:
    with together.begin(len(data) if told else None) as own:
        for piece in pieces_of(data, cuts):
            own.submit(piece)
        found[key] = own.digest()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6 * LARGE), st.lists(st.integers(0, 6 * LARGE), max_size=5), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 1 << 30),
)
def test_files_side_by_side(files: list[tuple[int, list[int], bool]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    datas = [rng.integers(0, 256, size, np.uint8).tobytes() for size, _, _ in files]
    found: dict[int, bytes] = {}
    with Hashing() as together:
        running = [
            threading.Thread(target=bring, args=(together, data, cuts, told, found, key))
            for key, (data, (_, cuts, told)) in enumerate(zip(datas, files, strict=True))
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert [found[key] for key in range(len(datas))] == [hashlib.sha256(data).digest() for data in datas]
    assert threads() == 0


def test_a_piece_may_change_when_its_future_is_done() -> None:
    data = np.random.default_rng(0).integers(0, 256, 4 * LARGE, np.uint8)
    expected = hashlib.sha256(data.tobytes()).digest()
    with Hashing() as together, together.begin() as own:
        own.submit(data).result(timeout=30)
        data[:] = 0
        assert own.digest() == expected


def test_a_file_that_brings_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And once it is late, not at all, until it brings something."""
    monkeypatch.setattr(hashing, "_PATIENCE_SECONDS", 0.5)
    data = bytes(LARGE)
    with Hashing() as together, together.begin(), together.begin() as own:
        own.submit(data).result(timeout=30)
        started = time.monotonic()
        for _ in range(20):
            own.submit(data).result(timeout=30)
        assert time.monotonic() - started < 20 * 0.5
        assert own.digest() == hashlib.sha256(21 * data).digest()


def test_a_file_of_which_all_has_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_PATIENCE_SECONDS", 3600.0)
    data = bytes(LARGE)
    with Hashing() as together, together.begin(len(data)) as first, together.begin(2 * len(data)) as second:
        first.submit(data)
        second.submit(data).result(timeout=30)
        second.submit(data).result(timeout=30)
        assert first.digest() == hashlib.sha256(data).digest()
        assert second.digest() == hashlib.sha256(2 * data).digest()


def test_who_leaves_early_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_PATIENCE_SECONDS", 3600.0)
    data = bytes(LARGE)
    with Hashing() as together:
        other = together.begin()
        other.__enter__()
        with together.begin() as own:
            hashed = own.submit(data)
            other.__exit__()
            hashed.result(timeout=30)
            assert own.digest() == hashlib.sha256(data).digest()
    assert threads() == 0


def test_after_stop_nothing_is_taken() -> None:
    with Hashing() as together, together.begin() as own:
        own.submit(bytes(LARGE))
        together.stop()
        with pytest.raises(Stopped):
            own.submit(b"x")


def test_no_thread_is_left_after_an_error() -> None:
    def fail() -> None:
        with Hashing() as together, together.begin() as own:
            for _ in range(50):
                own.submit(bytes(LARGE))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert threads() == 0
