"""files: the one module that writes. Faults, short writes and exclusive creation are really carried out."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from mpstore import files, processes
from mpstore.errors import StorageError
from mpstore.files import Operation
from tests.faults import Fault, striking

pytestmark = pytest.mark.disk


@pytest.fixture
def operations():
    seen: list[Operation] = []
    files.set_observer(lambda operation: seen.append(operation))
    yield seen
    files.set_observer(None)


def test_invariant_01_write_whole_syncs_content_before_the_name_and_the_name_before_returning(
    tmp_path: Path, operations: list[Operation]
) -> None:
    files.write_whole(tmp_path / "target", b"content", tmp_path)
    kinds = [operation.kind for operation in operations]
    assert kinds == ["create", "write", "fsync", "rename", "fsync_dir"]
    assert (tmp_path / "target").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["target"]


def test_create_exclusive_is_a_compare_and_swap(tmp_path: Path) -> None:
    assert files.create_exclusive(tmp_path / "a", b"first", tmp_path)
    assert not files.create_exclusive(tmp_path / "a", b"second", tmp_path)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("number", range(5))
def test_a_fault_at_each_operation_leaves_the_old_content_or_the_new(tmp_path: Path, number: int) -> None:
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(StorageError) as caught, striking(Fault(number + 1, "ENOSPC")):
        files.write_whole(tmp_path / "target", b"new", tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint is not None
    assert (tmp_path / "target").read_bytes() == (b"new" if number == 4 else b"old")


def test_short_writes_are_continued(tmp_path: Path) -> None:
    data = os.urandom(5000)
    files.set_observer(lambda operation: 7 if operation.kind == "write" else None)
    try:
        with files.StagedFile(tmp_path) as staged:
            staged.write(data[:100])
            staged.write(data[100:])
            assert staged.tell() == 5000
            staged.publish(tmp_path / "x")
    finally:
        files.set_observer(None)
    assert (tmp_path / "x").read_bytes() == data


def test_large_and_small_pieces_keep_their_order(tmp_path: Path) -> None:
    pieces = [os.urandom(size) for size in (10, 1 << 20, 3, (1 << 20) + 1, 0, 500_000, 600_000, 1)]
    with files.StagedFile(tmp_path) as staged:
        for piece in pieces:
            staged.write(piece)
        staged.publish(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"".join(pieces)


def test_write_at_puts_pieces_where_they_belong(tmp_path: Path) -> None:
    with files.StagedFile(tmp_path) as staged:
        staged.write_at(4, b"5678")
        staged.write_at(0, b"1234")
        staged.publish(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"12345678"


def test_a_staged_file_that_is_left_is_discarded(tmp_path: Path) -> None:
    with contextlib.suppress(RuntimeError), files.StagedFile(tmp_path) as staged:
        staged.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_missing_things_are_answers_not_errors(tmp_path: Path) -> None:
    assert not files.remove(tmp_path / "none")
    assert not files.remove_directory(tmp_path / "none")
    assert not files.rename(tmp_path / "none", tmp_path / "other")
    files.remove_tree(tmp_path / "none")
    with pytest.raises(StorageError):
        files.StagedFile(tmp_path / "none")


def test_a_file_that_comes_and_goes_is_renamed_or_is_not_there(tmp_path: Path) -> None:
    """As packs do while two gcs hand them to and fro: it may be away for rename, and back a moment later."""
    old, new, away = (tmp_path / name for name in ("old", "new", "away"))
    old.touch()
    done = threading.Event()

    def hand() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                os.rename(old, away)
                os.rename(away, old)

    other = threading.Thread(target=hand)
    other.start()
    try:
        renamed = 0
        for _ in range(3000):
            if files.rename(old, new):
                os.rename(new, old)
                renamed += 1
    finally:
        done.set()
        other.join()
    assert renamed
    with pytest.raises(StorageError):
        files.rename(old, tmp_path / "none" / "new")


def test_directories_are_made_with_their_parents_and_removed_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x")
    files.make_directories(tmp_path / "a" / "b" / "c")
    files.make_directories(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "kept")
    assert not files.remove_directory(tmp_path / "a")
    files.remove_tree(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (tmp_path / "kept" / "file").exists()


def test_appended_file_notices_that_it_was_removed(tmp_path: Path) -> None:
    appended = files.AppendedFile(tmp_path / "log")
    appended.append(b"one\n")
    os.unlink(tmp_path / "log")
    with pytest.raises(StorageError, match="removed"):
        appended.append(b"two\n")
    appended.close()


def test_staging_names_tell_whose_they_are(tmp_path: Path) -> None:
    name = os.path.basename(files.staging_name(tmp_path))
    assert processes.parse(name) == processes.current()
    assert files.staging_name(tmp_path) != files.staging_name(tmp_path)
