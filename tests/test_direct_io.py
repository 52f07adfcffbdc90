"""Past the page cache or not: the same bytes, and whatever does not fit goes the ordinary way."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import direct_io, files
from mpstore.checkpoint_dir import SourceFile
from mpstore.errors import StorageError
from mpstore.files.past_cache import PastCacheFile
from mpstore.ingest.reading import BufferPool, OpenedFile

pytestmark = pytest.mark.disk

PAGE, LEAST = direct_io.PAGE_BYTES, direct_io.LEAST_BYTES


def written(path: Path, size: int) -> bytes:
    """A file of `size` random bytes that is on the disk and not in memory, as far as the system allows."""
    data = np.random.default_rng(size).bytes(size)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return data


def source_of(path: Path, size: int) -> SourceFile:
    stat = path.stat()
    times = stat.st_mtime_ns, stat.st_ctime_ns
    return SourceFile(path.name, str(path), "safetensors", size, *times, stat.st_ino, stat.st_dev)


def can_go_direct(directory: Path) -> bool:
    """Whether the file system has a way past the cache, and is not a cache itself."""
    path = directory / "probe"
    path.touch()
    fd = direct_io.open_direct(path, os.O_RDWR)
    if fd < 0:
        return False
    try:
        room = direct_io.room(LEAST, 0)
        room[:] = 1
        return os.pwrite(fd, room.data, 0) == LEAST and direct_io.cached_share(fd, LEAST) < 0.5
    except OSError:
        return False
    finally:
        os.close(fd)


@given(st.integers(0, 1 << 40), st.integers(1, 3 * LEAST))
def test_room_lies_as_its_offset_does(offset: int, size: int) -> None:
    room = direct_io.room(size, offset)
    assert room.size == size
    assert (direct_io.address(room) - offset) % (PAGE if offset % 8 == 0 else 1) == 0
    assert direct_io.address(room) % 8 == 0
    head, body = direct_io.span(room.data, offset)
    assert head + body <= size
    if body:
        assert body >= LEAST
        assert body % PAGE == (offset + head) % PAGE == (direct_io.address(room) + head) % PAGE == 0
        assert head < PAGE
        assert size - head - body < PAGE
    else:
        assert head == size
        assert size < LEAST + 2 * PAGE or offset % 8


def test_what_lies_otherwise_does_not_go_direct() -> None:
    room = direct_io.room(4 * LEAST, 0)
    assert direct_io.span(room.data, 0) == (0, 4 * LEAST)
    assert direct_io.span(room.data, 8) == (4 * LEAST, 0)
    assert direct_io.span(room.data[8:], 8) == (PAGE - 8, 4 * LEAST - PAGE)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3 << 20), max_size=6), st.integers(0, 1 << 30), st.booleans())
def test_a_staged_file_holds_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int, past_cache: bool
) -> None:
    """In pieces of all sizes; its hasher hears of all of it."""
    directory = tmp_path_factory.mktemp("staged")
    pieces = [np.random.default_rng(seed + k).bytes(size) for k, size in enumerate(sizes)]
    hasher = blake3()
    with PastCacheFile(directory, hasher) if past_cache else files.StagedFile(directory) as staged:
        for k, piece in enumerate(pieces):
            assert staged.tell() == sum(sizes[:k])
            staged.write(piece)
            if seed % 3 == k:
                staged.flush()  # what follows lies otherwise
        staged.publish(directory / "whole")
    assert (directory / "whole").read_bytes() == b"".join(pieces)
    if past_cache:
        assert hasher.digest() == blake3(b"".join(pieces)).digest()


@pytest.mark.parametrize("past_cache", [False, True])
def test_what_is_written_past_the_cache_is_not_in_it(tmp_path: Path, past_cache: bool) -> None:
    size = 5 << 20
    with PastCacheFile(tmp_path, blake3()) if past_cache else files.StagedFile(tmp_path) as staged:
        for start in range(0, size, 1 << 16):
            staged.write(bytes(min(1 << 16, size - start)))
        staged.publish(tmp_path / "whole")
    fd = os.open(tmp_path / "whole", os.O_RDONLY)
    try:
        share = direct_io.cached_share(fd, size)
    finally:
        os.close(fd)
    assert (share < 0.5) == (past_cache and can_go_direct(tmp_path))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 9000),
    st.lists(st.integers(1, 1 << 20), min_size=1, max_size=6),
    st.booleans(),
    st.integers(0, 9),
)
def test_pieces_written_at_their_places(
    tmp_path_factory: pytest.TempPathFactory, start: int, sizes: list[int], reserved: bool, order: int
) -> None:
    directory = tmp_path_factory.mktemp("placed")
    bounds = start + np.concatenate([[0], np.cumsum(sizes)])
    data = np.random.default_rng(order).integers(0, 256, int(bounds[-1]), np.uint8)
    with files.StagedFile(directory) as staged:
        if reserved:
            staged.reserve(data.size)
        for k in [-1, *np.random.default_rng(order).permutation(len(sizes)).tolist()]:
            at, size = (0, start) if k < 0 else (int(bounds[k]), sizes[k])
            staged.write_at(at, data[at : at + size])
        staged.publish(directory / "whole")
    assert (directory / "whole").read_bytes() == data.tobytes()


@pytest.mark.parametrize("limit", [1, 5000, LEAST])
def test_a_short_write_on_the_direct_way_is_continued(tmp_path: Path, limit: int) -> None:
    data = np.random.default_rng(limit).integers(0, 256, 4 * LEAST, np.uint8)
    shortened: list[int] = []

    def observe(operation: files.Operation) -> int | None:
        if operation.kind != "write" or shortened:
            return None
        shortened.append(limit)
        return limit

    files.set_observer(observe)
    try:
        with PastCacheFile(tmp_path, blake3()) as staged:
            staged.write(data)
            staged.publish(tmp_path / "whole")
    finally:
        files.set_observer(None)
    assert shortened
    assert (tmp_path / "whole").read_bytes() == data.tobytes()


@pytest.mark.parametrize("failing", [0, 1, 4, 7])
@pytest.mark.parametrize("buffers", [1, 2, 9])
def test_what_fails_behind_whoever_writes_is_raised_and_nothing_gets_a_name(
    tmp_path: Path, failing: int, buffers: int
) -> None:
    """Full buffers are written in another thread; the end is not."""
    writes = itertools.count()

    def observe(operation: files.Operation) -> int | None:
        if operation.kind == "write" and next(writes) == failing:
            raise OSError(errno.ENOSPC, "no room")
        return None

    data = bytes((buffers << 20) + 17)

    def store(staged: PastCacheFile) -> None:
        for start in range(0, len(data), 1 << 18):
            staged.write(data[start : start + (1 << 18)])
        staged.publish(tmp_path / "whole")

    files.set_observer(observe)
    try:
        with PastCacheFile(tmp_path, blake3()) as staged:
            if failing > buffers:
                store(staged)
                assert (tmp_path / "whole").read_bytes() == data
                return
            with pytest.raises(StorageError, match="no room"):
                store(staged)
            if failing < buffers:  # in the other thread: and so it stays
                with pytest.raises(StorageError, match="no room"):
                    staged.publish(tmp_path / "whole")
    finally:
        files.set_observer(None)
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mp-write")]


@pytest.mark.parametrize("first", [8, 1000, 4096, 4100, 4104])
@pytest.mark.parametrize("step", [1 << 22, (1 << 20) + 12, 70_000])
def test_a_source_that_is_not_in_memory_is_read_past_the_cache(tmp_path: Path, first: int, step: int) -> None:
    size = (17 << 20) + 123
    data = written(tmp_path / "weights", size)
    with OpenedFile(source_of(tmp_path / "weights", size)) as stream:
        direct = can_go_direct(tmp_path) and hasattr(os, "posix_fadvise")
        assert (stream._direct >= 0) <= direct
        found = [stream.read(first)]
        at, pool = first, BufferPool(step)
        while at < size:
            buffer = pool.take(at)
            view = buffer[: size - at].data
            filled = 0
            while filled < len(view):
                got = stream.readinto(view[filled:])
                assert got
                filled += got
            found.append(bytes(view))
            pool.give_back(buffer)
            at += filled
        assert stream.read(1) == b""
        stream.check_unchanged()
    assert b"".join(found) == data


def test_a_source_that_is_in_memory_is_read_from_there(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(17 << 20))
    path.read_bytes()
    fd = os.open(path, os.O_RDONLY)
    try:
        share = direct_io.cached_share(fd, 17 << 20)
    finally:
        os.close(fd)
    assert share > 0.9
    with OpenedFile(source_of(path, 17 << 20)) as stream:
        assert stream._direct < 0


def test_a_source_that_shrinks_while_it_is_read_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    written(path, 17 << 20)
    with OpenedFile(source_of(path, 17 << 20)) as stream:
        room = direct_io.room(1 << 20, 0).data
        assert stream.readinto(room) == 1 << 20
        os.truncate(path, (1 << 20) + 4096)
        assert stream.readinto(room) == 4096
        assert stream.readinto(room) == 0


def test_room_that_is_not_there_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with files.StagedFile(tmp_path) as staged, pytest.raises(StorageError, match=str(tmp_path)):
        staged.reserve(1 << 58)
