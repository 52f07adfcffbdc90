"""Sessions and trash: what a writer leans on is on disk before it looks, and comes back from the trash."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mpstore import files
from mpstore.codecs import Format, Level
from mpstore.errors import DamagedError, StorageError
from mpstore.ids import block_id
from mpstore.store import Hint, ObjectStore, read_sessions
from mpstore.store import frame as frames
from mpstore.store.pack import BLOCKS, PackWriter
from tests.store_material import bf16_block, fill, fine_tuned, open_store


def put_aside(root: Path, trash: str = "somebody") -> list[Path]:
    directory = root / "objects" / "trash" / trash
    directory.mkdir(parents=True)
    moved = []
    for path in sorted((root / "objects" / "packs").iterdir()):
        path.rename(directory / path.name)
        moved.append(directory / path.name)
    return moved


def test_a_session_lists_its_pins_and_goes_when_it_is_left(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    content = fill(store)
    own_id = next(iter(content))
    with store.writer("merge") as writer:
        assert writer.adopt(own_id)
        assert not writer.adopt(bytes(32))
        writer.pin_commit(b"c" * 32)
        (session,) = read_sessions(store.layout.sessions)
        assert session.packs == {store.packs.ids[int(store.locate(own_id).pack[0])]}
        assert (session.label, session.pid, session.commits) == ("merge", os.getpid(), {b"c" * 32})
        assert not session.dead
    assert list(read_sessions(store.layout.sessions)) == []


def test_invariant_06_a_pack_is_pinned_before_it_is_looked_at_and_before_it_is_published(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    seen: list[str] = []

    def observe(operation: files.Operation) -> None:
        if operation.kind == "write" and operation.path.endswith(".session") and operation.data:
            seen.append("pin " + bytes(operation.data).decode().split()[-1])
        if operation.kind == "rename" and operation.target.endswith(".pack"):
            seen.append("publish " + os.path.basename(operation.target)[:-5])

    files.set_observer(observe)
    try:
        fill(store)
    finally:
        files.set_observer(None)
    published = [line.split()[1] for line in seen if line.startswith("publish")]
    assert len(published) > 2
    for pack in published:
        assert seen.index(f"pin {pack}") < seen.index(f"publish {pack}")


def test_a_dead_process_s_session_is_seen_to_be_dead(tmp_path: Path) -> None:
    code = (
        "import os, sys; from tests.store_material import *; s = open_store(sys.argv[1]);"
        "w = s.writer('killed'); w.pin_commit(b'c' * 32); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (session,) = read_sessions(str(tmp_path / "sessions"))
    assert session.dead
    assert session.commits == {b"c" * 32}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]\n",
        b'{"label": 3, "begun_ns": "x"}\n\npack zz\n',
        b"\xff\n\npack " + b"\xc3" * 64 + b"\n",
    ],
)
def test_a_half_written_or_odd_session_file_harms_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.session").write_bytes(content)
    (tmp_path / "other").write_bytes(content)
    (session,) = read_sessions(str(tmp_path))
    assert not session.dead  # not provably
    assert session.packs == frozenset()


def test_a_line_that_was_cut_off_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "x.session").write_bytes(b"{}\n\npack abc" + b"\npack " + b"ab" * 32 + b"\n")
    (session,) = read_sessions(str(tmp_path))
    assert session.packs == {bytes.fromhex("ab" * 32)}


def test_a_session_that_was_swept_stops_its_writer(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    content = fill(store)
    with store.writer("swept") as writer:
        (session,) = read_sessions(store.layout.sessions)
        os.unlink(session.path)
        with pytest.raises(StorageError, match="removed"):
            writer.adopt(next(iter(content)))


@pytest.mark.parametrize("length", [1, 2, 3, 1500])
def test_deltas_that_lean_on_each_other_are_as_good_as_not_there(tmp_path: Path, length: int) -> None:
    """A hostile pack: a ring of deltas, each of them right by itself. What is put again lies there whole."""
    store = open_store(tmp_path, 1 << 20)
    raws = [fine_tuned(bf16_block(0), k) for k in range(length)]
    ids = [block_id(raw) for raw in raws]
    pack = PackWriter(store.layout.tmp, BLOCKS)
    for k, (own_id, raw) in enumerate(zip(ids, raws, strict=True)):
        base = (k - 1) % length
        made = frames.encode(own_id, raw, Format.BF16, (ids[base], raws[base]), Level.DEFAULT)
        assert made[0].base == ids[base]
        pack.append(*made)
    pack.publish(store.layout.packs, pack.seal())
    with pytest.raises(DamagedError):
        store.read(ids[0])
    with store.writer("again") as writer:
        assert not writer.adopt(ids[0])
        for own_id, raw in zip(ids[:10], raws[:10], strict=True):
            assert writer.put(raw, Hint(Format.BF16, ids[1 % length], raws[1 % length])) == own_id
        assert writer.finish().new_blocks == len(ids[:10])
    for own_id, raw in zip(ids[:10], raws[:10], strict=True):
        assert bytes(store.read(own_id)) == raw


def test_a_read_that_misses_brings_packs_back_from_the_trash(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path))
    stale = ObjectStore.open(str(tmp_path))
    places = stale.locate(b"".join(content))
    moved = put_aside(tmp_path)
    assert {frame.id for frame in stale.fetch(places)} == set(content)  # found where they were put aside
    assert not any(path.exists() for path in moved)
    put_aside(tmp_path, "another")
    fresh = ObjectStore.open(str(tmp_path))
    assert all(bytes(fresh.read(own_id)) == raw for own_id, raw in content.items())


def test_what_was_not_found_since_a_gc_had_put_it_aside_is_looked_for_again(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path))
    put_aside(tmp_path)
    store = ObjectStore.open(str(tmp_path))
    places = store.locate(b"".join([*content, bytes(32)]))
    assert not places.found.any()
    rows = list(range(len(content)))
    assert {(frame.row, frame.id) for frame in store.fetch(places, rows)} == set(enumerate(content))
    with pytest.raises(DamagedError, match="in no pack"):  # what is nowhere is still said to be
        list(store.fetch(places))


def test_a_pack_that_gcs_hand_to_and_fro_is_found_in_the_end(tmp_path: Path) -> None:
    """Just then put aside when packs are listed, just then back when the trash is looked at."""
    content = fill(open_store(tmp_path))
    stores = [ObjectStore.open(str(tmp_path)) for _ in range(60)]
    places = [store.locate(b"".join(content)) for store in stores]
    trash = tmp_path / "objects" / "trash" / "gc"
    trash.mkdir(parents=True)
    names = [path.name for path in (tmp_path / "objects" / "packs").iterdir()]
    done = threading.Event()

    def to_and_fro() -> None:
        packs = tmp_path / "objects" / "packs"
        while not done.is_set():
            for source, target in ((packs, trash), (trash, packs)):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):  # a reader was faster
                        os.rename(source / name, target / name)
                time.sleep(random.choice([0, 0.0002, 0.002]))

    mover = threading.Thread(target=to_and_fro)
    mover.start()
    try:
        for store, own in zip(stores, places, strict=True):
            assert {frame.id for frame in store.fetch(own)} == set(content)
    finally:
        done.set()
        mover.join()


def test_adopting_brings_a_pack_back_from_the_trash(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    content = fill(store)
    own_id = next(iter(content))
    assert store.contains(own_id)
    put_aside(tmp_path)
    with store.writer("x") as writer:
        assert writer.adopt(own_id)
        assert bytes(store.read(own_id)) == content[own_id]


def test_what_is_gone_for_good_is_not_adopted_but_stored_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    content = fill(store)
    for path in put_aside(tmp_path):
        path.unlink()
    with store.writer("x") as writer:
        for own_id, raw in content.items():
            if not raw.startswith(b"record"):
                assert not writer.adopt(own_id)
                assert writer.put(raw) == own_id
        assert writer.finish().new_blocks == len(content) - 1
    blocks = {own_id: raw for own_id, raw in content.items() if not raw.startswith(b"record")}
    assert all(bytes(store.read(own_id)) == raw for own_id, raw in blocks.items())


def test_whether_an_object_is_there_is_asked_of_the_trash_too(tmp_path: Path) -> None:
    """A gc at work puts packs aside for a moment; who asks then must not hear that they are gone."""
    store = open_store(tmp_path)
    content = fill(store, 3)
    late = open_store(tmp_path)
    trash = Path(store.layout.trash, "aside")
    trash.mkdir()
    for path in Path(store.layout.packs).iterdir():
        path.rename(trash / path.name)
    assert not any(map(late.contains, content))
    assert all(map(late.has, content))
    assert not late.has(b"n" * 32)
