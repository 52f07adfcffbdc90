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

from mpstore import hash_lanes, kernels
from mpstore.hashing import Hashing, Stopped
from mpstore.kernels import sha256_native
from mpstore.pipeline import in_parallel

LARGE = 64 << 10  # pieces of this size and more go into lanes


@pytest.fixture(params=kernels.modes(), autouse=True)
def _every_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    kernels.select(request.param)
    yield
    kernels.select("auto")


@pytest.fixture
def lanes() -> None:
    if kernels.pick("sha256").lanes() == 1:
        pytest.skip("each hash has a thread of its own here")


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


@settings(max_examples=12, deadline=None)
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
    monkeypatch.setattr(hash_lanes, "_PATIENCE_SECONDS", 0.5)
    data = bytes(LARGE)
    with Hashing() as together, together.begin(), together.begin() as own:
        own.submit(data).result(timeout=30)
        started = time.monotonic()
        for _ in range(20):
            own.submit(data).result(timeout=30)
        assert time.monotonic() - started < 20 * 0.5
        assert own.digest() == hashlib.sha256(21 * data).digest()


def test_a_file_of_which_all_has_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_lanes, "_PATIENCE_SECONDS", 3600.0)
    data = bytes(LARGE)
    with Hashing() as together, together.begin(len(data)) as first, together.begin(2 * len(data)) as second:
        first.submit(data)
        second.submit(data).result(timeout=30)
        second.submit(data).result(timeout=30)
        assert first.digest() == hashlib.sha256(data).digest()
        assert second.digest() == hashlib.sha256(2 * data).digest()


def test_who_leaves_early_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_lanes, "_PATIENCE_SECONDS", 3600.0)
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


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("size", [LARGE, LARGE - 64])
def test_points_are_there_before_who_waits_goes_on(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """However long it takes to keep one: the hash has not gone on meanwhile, none is missing at the end."""
    kept = sha256_native.WideSha256.point

    def slowly(self: sha256_native.WideSha256) -> bytes:
        time.sleep(0.02)
        return kept(self)

    monkeypatch.setattr(sha256_native.WideSha256, "point", slowly)
    monkeypatch.setattr(hash_lanes, "POINT_BYTES", size)
    data = np.random.default_rng(0).integers(0, 256, 2 * size, np.uint8).tobytes()
    expected = []
    for stop in (size, 2 * size):
        alone = sha256_native.WideSha256()
        alone.update(data[:stop])
        expected.append(kept(alone))
    for cuts in ([], [size], [size, size + 64], [size - 64, size, size + 64]):
        with Hashing() as together, together.begin() as own:
            for piece in pieces_of(data, cuts):
                own.submit(piece).result(timeout=30)
            assert own.digest() == hashlib.sha256(data).digest()
            assert list(own.points) == expected


class Exhausted:
    """A hash for whose second piece there is no memory."""

    def __init__(self) -> None:
        self.updates = 0

    def update(self, _: object) -> None:
        self.updates += 1
        if self.updates == 2:
            raise MemoryError

    def digest(self) -> bytes:
        return bytes(32)


def test_a_piece_that_could_not_be_hashed_leaves_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not look at its future is told in the end."""
    monkeypatch.setattr(kernels.pick("sha256"), "sha256", Exhausted)
    with Hashing() as together, together.begin() as own:
        for _ in range(3):
            own.submit(bytes(LARGE))
        with pytest.raises(MemoryError):
            own.digest()
    assert threads() == 0


@pytest.mark.usefixtures("lanes")
def test_who_still_waits_at_the_end_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C leaves before the threads of the files have ended."""
    monkeypatch.setattr(hash_lanes, "_PATIENCE_SECONDS", 3600.0)
    together = Hashing()
    with together, together.begin() as own, together.begin():
        hashed = own.submit(bytes(LARGE))
        together.__exit__()
        with pytest.raises(Stopped):
            hashed.result(timeout=30)
        with pytest.raises(Stopped):
            own.submit(bytes(LARGE))
        with pytest.raises(Stopped):
            own.digest()


def test_ctrl_c_while_works_are_begun_ends_those_under_way() -> None:
    stopping = threading.Event()
    done: list[bool] = []

    def works() -> Iterator[int]:
        yield 0
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel(lambda _: done.append(stopping.wait(1)), works(), 1, stopping.set, Stopped)
    assert done in ([], [True])
