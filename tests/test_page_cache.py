"""Reading ahead is a hint: it changes nothing and never fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpstore import page_cache

pytestmark = pytest.mark.disk


def test_what_was_just_read_is_known_to_be_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(1 << 20))
    path.read_bytes()
    fd = os.open(path, os.O_RDONLY)
    try:
        try:
            os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
        except (AttributeError, OSError) as error:
            pytest.skip(f"this system or file system does not tell what is in memory: {error}")
        assert page_cache._is_cached(fd, (1 << 20) - 1)
        assert not page_cache._is_cached(fd, 1 << 20)  # behind the end there is nothing
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    finally:
        os.close(fd)


@pytest.mark.parametrize(("offset", "length"), [(0, 1 << 20), (0, 0), (1 << 19, 1 << 30), (1 << 40, 5)])
def test_a_hint_never_fails(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 4096)
    fd = os.open(path, os.O_RDONLY)
    page_cache.will_need(fd, offset, length)
    assert os.pread(fd, 256, 0) == bytes(range(256))
    os.close(fd)
    page_cache.will_need(fd, offset, length)  # not even where the file is closed
