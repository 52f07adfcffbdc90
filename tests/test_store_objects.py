"""The store and its writer: what goes in comes out, once, verified, at the cost that was told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mpstore import files
from mpstore.codecs import Format
from mpstore.errors import DamagedError, NotFoundError, StorageError
from mpstore.ids import block_id
from mpstore.store import Hint, ObjectStore, Prepared, packindex, set_read_observer
from mpstore.store.layout import pack_ids, pack_name
from tests.store_material import bf16_block, fill, fine_tuned, open_store
from tests.warned import Warned


def packs_of(root: Path, suffix: str = ".pack") -> list[Path]:
    return sorted((root / "objects" / "packs").glob("*" + suffix))


def test_what_goes_in_comes_out_by_any_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    content = fill(store)
    for reader in (store, ObjectStore.open(str(tmp_path))):
        for own_id, raw in content.items():
            assert bytes(reader.read(own_id)) == raw
    assert len(packs_of(tmp_path)) > 3
    assert os.listdir(tmp_path / "tmp") == os.listdir(tmp_path / "sessions") == []


def test_identical_blocks_are_stored_once_within_and_between_sessions(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    block = bf16_block(1)
    with store.writer("one") as writer:
        first, second = writer.prepare(block, Hint(Format.BF16)), writer.prepare(block, Hint(Format.BF16))
        assert writer.append(second) == writer.append(first)  # whoever comes first writes it
        summary = writer.finish()
    assert (summary.new_blocks, summary.reused_blocks, summary.raw_bytes) == (1, 1, 2 * len(block))
    with ObjectStore.open(str(tmp_path)).writer("two") as writer:
        assert writer.prepare(block).reused
        writer.put(block)
        writer.put_record("plan", b"p")
        writer.put_record("plan", b"p")
        summary = writer.finish()
    assert (summary.new_blocks, summary.reused_blocks, summary.new_records) == (0, 1, 1)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as can be, so that they meet between any two steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("together", [1, 3])
def test_many_threads_prepare_while_one_appends_in_order(tmp_path: Path, together: int) -> None:
    store = open_store(tmp_path, 1024)
    blocks = [np.frombuffer(bf16_block(i % 40, 256), np.uint8) for i in range(600)]
    groups = [blocks[at : at + together] for at in range(0, len(blocks), together)]

    def prepare(group: list[npt.NDArray[np.uint8]]) -> list[Prepared]:
        ids = [block_id(block.data) for block in group]
        return writer.prepare_many(group, [Hint(Format.BF16)] * len(group), ids)

    with store.writer("threads") as writer, ThreadPoolExecutor(8) as pool:
        for made, group in zip(pool.map(prepare, groups), groups, strict=True):
            for prepared, block in zip(made, group, strict=True):
                assert writer.append(prepared) == block_id(block.data)
        summary = writer.finish()
    assert (summary.new_blocks, summary.reused_blocks) == (40, 560)
    assert all(bytes(store.read(block_id(block.data))) == bytes(block) for block in blocks[:40])


def test_appended_together_is_appended_and_says_what_was_new(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    blocks = [bf16_block(i) for i in (1, 2, 1, 3)]
    with store.writer("one") as writer:
        assert writer.append_many([writer.prepare(block, Hint(Format.BF16)) for block in blocks]) == 3
        assert writer.append_many([writer.prepare(block) for block in (blocks[3], bf16_block(4))]) == 1
        summary = writer.finish()
    assert (summary.new_blocks, summary.reused_blocks) == (4, 2)
    with store.writer("two") as writer:
        assert writer.append_many([writer.prepare(block) for block in blocks]) == 0
        assert writer.append_many([]) == 0


def test_records_put_together_are_put_once_each(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    with store.writer("one") as writer:
        known = writer.put_record("plan", b"known")
        assert writer.put_records("plan", []) == []
        ids = writer.put_records("plan", [b"a", b"known", b"b", b"a"])
        assert writer.finish().new_records == 3
    assert ids[1] == known
    assert ids[0] == ids[3]
    assert [bytes(store.read_record("plan", own_id)) for own_id in ids] == [b"a", b"known", b"b", b"a"]
    with store.writer("two") as writer:
        assert writer.put_records("plan", [b"b", b"c"])[0] == ids[2]
        assert writer.finish().new_records == 1


def test_a_base_whose_pack_was_seen_is_leant_on_while_the_pack_is_there(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    base = bf16_block(1, 1024)
    with store.writer("base") as writer:
        base_id = writer.put(base, Hint(Format.BF16))
    (pack,) = pack_ids(str(tmp_path / "objects" / "packs"))
    with store.writer("seen") as writer:
        seen = writer.put(fine_tuned(base, 2), Hint(Format.BF16, base_id, base, pack_name(pack)))
        session = next((tmp_path / "sessions").iterdir())
        assert pack in session.read_bytes() or pack.hex().encode() in session.read_bytes()
    with store.writer("gone") as writer:
        gone = writer.put(fine_tuned(base, 3), Hint(Format.BF16, base_id, base, pack_name(bytes(32))))
        absent = writer.put(
            fine_tuned(base, 4), Hint(Format.BF16, block_id(b"?"), base, pack_name(bytes(32)))
        )
    places = store.locate(seen + gone + absent)
    assert [row.tobytes() for row in places.base_ids] == [base_id, base_id, bytes(32)]


def test_a_delta_never_leans_on_a_delta(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    base = bf16_block(1, 1024)
    tuned, again = fine_tuned(base, 2), fine_tuned(fine_tuned(base, 2), 3)
    with store.writer("chain") as writer:
        base_id = writer.put(base, Hint(Format.BF16))
        tuned_id = writer.put(tuned, Hint(Format.BF16, base_id, base))
        writer.flush()
        again_id = writer.put(again, Hint(Format.BF16, tuned_id, tuned))
        writer.finish()
    places = store.locate(base_id + tuned_id + again_id)
    assert places.base_ids[0].tobytes() == bytes(32)
    assert places.base_ids[1].tobytes() == base_id
    assert places.base_ids[2].tobytes() == base_id  # not tuned_id: that one is a delta itself
    assert bytes(store.read(again_id)) == again


def test_a_hint_that_leads_nowhere_is_ignored(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    base, tuned = bf16_block(1), fine_tuned(bf16_block(1), 2)
    with store.writer("x") as writer:
        own = writer.put(tuned, Hint(Format.BF16, block_id(base), base))
        assert writer.put(tuned, Hint(Format.BF16, own, tuned)) == own
        writer.finish()
    assert not store.locate(own).based[0]
    assert bytes(store.read(own)) == tuned


def test_invariant_01_packs_are_durable_before_indexes_and_blocks_before_records(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    seen: list[tuple[str, str]] = []

    def observe(operation: files.Operation) -> None:
        seen.append((operation.kind, operation.target or operation.path))

    files.set_observer(observe)
    try:
        content = fill(store, 3)
    finally:
        files.set_observer(None)
    steps = [
        (kind, os.path.splitext(path)[1])
        for kind, path in seen
        if kind in ("fsync", "rename") or path.endswith("packs")
    ]
    steps = [(kind, suffix if kind == "rename" else "") for kind, suffix in steps if kind != "mkdir"]
    one = [
        ("fsync", ""),
        ("rename", ".pack"),
        ("fsync_dir", ""),
        ("fsync", ""),
        ("rename", ".idx"),
        ("fsync_dir", ""),
    ]
    assert steps == one + one
    published = [path for kind, path in seen if kind == "rename" and path.endswith(".pack")]
    record = next(own_id for own_id, raw in content.items() if raw.startswith(b"record"))
    number = int(store.locate(record).pack[0])
    assert store.packs.ids[number].hex() in published[1]  # the record's pack came second


def test_reads_cost_exactly_the_frames_that_were_asked_for(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path, 1 << 20), 30)
    store = ObjectStore.open(str(tmp_path))
    places = store.locate(b"".join(content))
    rows = np.flatnonzero(np.random.default_rng(1).random(len(places)) < 0.5)
    reads: list[tuple[str, int, int]] = []
    set_read_observer(lambda path, offset, length, _: reads.append((path, offset, length)))
    try:
        frames = list(store.fetch(places, rows, "expert"))
    finally:
        set_read_observer(None)
    expected = int(places.frame_bytes[rows].sum())
    assert sum(length for _, _, length in reads) == expected == store.meter.read_bytes("expert")
    assert store.meter.read_bytes() == expected
    assert len(reads) < len(rows)  # neighbours together
    assert sorted(frame.row for frame in frames) == rows.tolist()
    for frame in frames:
        assert frame.id == places.ids[frame.row].tobytes()
        assert bytes(store.decode(frame)) == content[frame.id]
    assert store.meter.read_bytes("base") == 0  # a base that decode had to read counts for the expert too


def test_decoding_with_the_base_at_hand_reads_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    content = fill(store, 5)
    places = store.locate(b"".join(content))
    based = np.flatnonzero(places.based)
    assert based.size == 5
    frames = list(store.fetch(places, based, "expert"))
    before = store.meter.read_bytes()
    for frame in frames:
        assert bytes(store.decode(frame, content[frame.base])) == content[frame.id]
        with pytest.raises(DamagedError, match=frame.pack):
            store.decode(frame, bytes(len(content[frame.base])))
    assert store.meter.read_bytes() == before


def test_invariant_04_a_flipped_bit_anywhere_in_a_pack_is_an_error_or_is_not_needed(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path, 1 << 20), 2)
    noticed = flips = 0
    for path in packs_of(tmp_path):
        data = path.read_bytes()
        for place in range(0, len(data), 2):
            bits = bytearray(data)
            bits[place] ^= 1
            path.write_bytes(bits)
            store = ObjectStore.open(str(tmp_path))
            failed = 0
            for own_id, raw in content.items():
                try:
                    assert bytes(store.read(own_id)) == raw
                except DamagedError as error:
                    failed += "offset" in error.message or "in no pack" in error.message
            noticed += failed > 0
            flips += 1
        path.write_bytes(data)
    assert noticed > 0.9 * flips  # the rest are the packs' headers, and bits that a codec does not use


def test_a_flipped_bit_anywhere_in_an_index_harms_nothing(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path, 1 << 20), 2)
    for path in packs_of(tmp_path, ".idx"):
        data = path.read_bytes()
        for place in range(0, len(data), 3):
            bits = bytearray(data)
            bits[place] ^= 1
            path.write_bytes(bits)
            store = ObjectStore.open(str(tmp_path))
            assert all(bytes(store.read(own_id)) == raw for own_id, raw in content.items())
        path.write_bytes(data)


def test_a_large_index_that_lies_is_found_out_when_something_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = fill(open_store(tmp_path, 1 << 20), 3)
    monkeypatch.setattr(packindex.open_index, "__defaults__", (0,))  # none is proved on opening, as if large
    for path in packs_of(tmp_path, ".idx"):
        data = path.read_bytes()
        for place in range(60, len(data), 7):
            bits = bytearray(data)
            bits[place] ^= 255
            path.write_bytes(bits)
            warnings = Warned()
            store = ObjectStore.open(str(tmp_path), progress=warnings)
            assert all(bytes(store.read(own_id)) == raw for own_id, raw in content.items())
        path.write_bytes(data)


def test_invariant_04_an_index_that_gives_objects_each_others_places_is_not_believed(tmp_path: Path) -> None:
    """Whole frames, checksums that fit: only the id in the frame tells."""
    content = fill(open_store(tmp_path, 1 << 20), 3)
    for path in packs_of(tmp_path, ".idx"):
        table = packindex.open_index(str(path))
        turned = {name: np.roll(getattr(table, name), 1) for name in ("offset", "frame_bytes", "raw_bytes")}
        path.write_bytes(packindex.to_bytes(dataclasses.replace(table, **turned)))
    store = ObjectStore.open(str(tmp_path))
    blocks = [own_id for own_id, raw in content.items() if not raw.startswith(b"record")]
    for own_id in blocks:
        with pytest.raises(DamagedError, match="offset"):
            store.read(own_id)
        with pytest.raises(DamagedError, match="offset"):
            list(store.fetch(store.locate(own_id)))


@pytest.mark.parametrize("way", ["delete", "truncate", "empty", "swap"])
def test_a_pack_without_its_index_is_usable(tmp_path: Path, way: str) -> None:
    content = fill(open_store(tmp_path))
    indexes = packs_of(tmp_path, ".idx")
    for i, path in enumerate(indexes):
        if way == "delete":
            path.unlink()
        else:
            data = {"truncate": path.read_bytes()[:100], "empty": b"", "swap": indexes[i - 1].read_bytes()}[
                way
            ]
            path.write_bytes(data)
    warnings = Warned()
    store = ObjectStore.open(str(tmp_path), progress=warnings)
    assert all(bytes(store.read(own_id)) == raw for own_id, raw in content.items())
    assert bool(warnings.said) == (way != "delete")


def test_an_index_without_its_pack_is_not_believed(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path))
    for path in packs_of(tmp_path):
        path.unlink()
    store = ObjectStore.open(str(tmp_path))
    for own_id in content:
        assert not store.contains(own_id)
        with pytest.raises(DamagedError, match="in no pack"):
            store.read(own_id)


def test_a_second_copy_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    for directory in ("a", "b"):
        store = open_store(tmp_path / directory, 1 << 20)
        content = fill(store, 4)
        with store.writer(directory) as writer:
            writer.put(directory.encode())
            writer.finish()
    target = tmp_path / "a" / "objects" / "packs"
    store = open_store(tmp_path / "b", 1 << 20)
    extra = open_store(tmp_path / "c", 1 << 20)
    with extra.writer("c") as writer:
        for own_id, raw in content.items():
            if store.locate(own_id).form[0] < 128:
                writer.put(raw)
        writer.finish()
    for path in packs_of(tmp_path / "c"):
        (target / path.name).write_bytes(path.read_bytes())
    for path in packs_of(tmp_path / "a"):
        if path.name in {p.name for p in packs_of(tmp_path / "b")}:
            bits = bytearray(path.read_bytes())
            bits[100::150] = bytes(len(bits[100::150]))
            path.write_bytes(bits)
    reader = ObjectStore.open(str(tmp_path / "a"))
    blocks = [own_id for own_id in content if store.locate(own_id).form[0] < 128]
    assert all(bytes(reader.read(own_id)) == content[own_id] for own_id in blocks)


def test_records_are_asked_for_by_kind(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.writer("x") as writer:
        plan = writer.put_record("plan", b"content")
        writer.finish()
    assert bytes(store.read_record("plan", plan)) == b"content"
    with pytest.raises(NotFoundError, match="not a commit"):
        store.read_record("commit", plan)
    assert store.with_prefix(plan.hex()[:6], "plan") == [plan]
    assert store.with_prefix(plan.hex()[:6].upper()) == [plan]
    assert store.with_prefix(plan.hex()) == [plan]
    assert store.with_prefix(plan.hex()[:6], "commit") == []
    assert store.with_prefix("f" if plan.hex()[0] != "f" else "0") == []


def test_history_is_read_without_touching_the_packs_of_blocks(tmp_path: Path) -> None:
    fill(open_store(tmp_path, 1 << 20), 5)
    store = ObjectStore.open(str(tmp_path))
    kinds = {info.id: info.kind for n in store.packs.tables() for info in n.table.packs}
    assert sorted(kinds.values()) == [0, 1]


def test_another_process_s_packs_are_seen_when_missed(tmp_path: Path) -> None:
    reader = open_store(tmp_path)
    first = fill(reader, 2, seed=1)
    second = fill(open_store(tmp_path), 2, seed=2)
    assert not reader.contains(next(iter(second)))
    assert all(bytes(reader.read(own_id)) == raw for own_id, raw in (first | second).items())


def test_an_error_publishes_what_was_made_and_the_next_try_finds_it(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)
    with contextlib.suppress(KeyboardInterrupt), store.writer("cut") as writer:
        for i in range(5):
            writer.put(bf16_block(i), Hint(Format.BF16))
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "sessions") == os.listdir(tmp_path / "tmp") == []
    with open_store(tmp_path).writer("again") as writer:
        for i in range(6):
            writer.put(bf16_block(i), Hint(Format.BF16))
        summary = writer.finish()
    assert (summary.new_blocks, summary.reused_blocks) == (1, 5)


def test_after_a_failed_write_nothing_more_is_published(tmp_path: Path) -> None:
    store = open_store(tmp_path, 1 << 20)

    def fail(operation: files.Operation) -> None:
        if operation.kind == "fsync":
            raise OSError(5, "Input/output error")

    with store.writer("x") as writer:
        writer.put(bf16_block(1))
        writer.put_record("plan", b"names the block")
        files.set_observer(fail)
        try:
            with pytest.raises(StorageError):
                writer.finish()
        finally:
            files.set_observer(None)
        with pytest.raises(StorageError):
            writer.finish()
        with pytest.raises(StorageError):
            writer.put(bf16_block(2))
    assert packs_of(tmp_path) == []
    assert os.listdir(tmp_path / "tmp") == []


def test_many_small_packs_are_searched_through_few_tables_and_no_cache_outlives_a_pack(
    tmp_path: Path,
) -> None:
    content: dict[bytes, bytes] = {}
    for seed in range(34):
        content |= (newest := fill(open_store(tmp_path, 1 << 20), 1, seed=seed))
    cache = tmp_path / "cache" / "packs.idx"
    assert cache.exists()
    store = ObjectStore.open(str(tmp_path))
    assert len(store.packs.tables()) < 9
    assert all(bytes(store.read(own_id)) == raw for own_id, raw in content.items())
    for own_id in (next(iter(content)), next(iter(newest))):
        place = store.locate(own_id)
        os.unlink(tmp_path / "objects" / "packs" / f"{store.packs.ids[int(place.pack[0])].hex()}.pack")
        fewer = ObjectStore.open(str(tmp_path))
        assert not fewer.contains(own_id)
        assert len(fewer.packs.present) == len(pack_ids(store.layout.packs)) < len(store.packs.present)
    cache.write_bytes(b"rubbish")
    assert sum(ObjectStore.open(str(tmp_path)).contains(own_id) for own_id in content) == len(content) - 4


def test_readers_share_a_store(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path), 20)
    store = ObjectStore.open(str(tmp_path))
    failures: list[BaseException] = []

    def read_all() -> None:
        try:
            for own_id, raw in content.items():
                assert bytes(store.read(own_id)) == raw
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_located_in_groups_is_located(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    base = bf16_block(1, 1024)
    with store.writer("x") as writer:
        base_id = writer.put(base, Hint(Format.BF16))
        others = [writer.put(fine_tuned(base, n), Hint(Format.BF16, base_id, base)) for n in range(2, 9)]
        writer.finish()
    for group in ([base_id, *others], [block_id(b"absent"), *others[::-1]], []):
        ids = np.frombuffer(b"".join(group), np.uint8).reshape(-1, 32)
        places, (found, _) = store.locate(b"".join(group)), store.packs.locate_many([ids, ids])
        assert (found.found == places.found).all()
        assert (found.based == places.based).all()
        assert (found.base_ids() == places.base_ids).all()
        for name in ("offset", "frame_bytes", "raw_bytes", "codec", "form"):
            assert (found.column(name) == getattr(places, name)).all()


def test_many_lost_objects_are_missed_as_quickly_as_one(tmp_path: Path) -> None:
    """Only the first is looked for again and again; a pack that comes is seen all the same."""
    fill(open_store(tmp_path))
    store = ObjectStore.open(str(tmp_path))

    def seconds_to_miss(lost: list[bytes]) -> float:
        begun = time.monotonic()
        for own_id in lost:
            with pytest.raises(DamagedError, match="in no pack"):
                store.read(own_id)
        return time.monotonic() - begun

    first = seconds_to_miss([bytes([1]) * 32])
    assert seconds_to_miss([bytes([n]) * 32 for n in range(2, 42)]) < 20 * first
    ((own_id, raw), *_) = fill(open_store(tmp_path), seed=1).items()
    assert bytes(store.read(own_id)) == raw


def test_objects_of_a_pack_that_is_a_link_to_nowhere_are_missed_quickly(tmp_path: Path) -> None:
    content = fill(open_store(tmp_path, 1 << 20), 20)
    for pack in packs_of(tmp_path):
        pack.unlink()
        pack.symlink_to(tmp_path / "nowhere")
    store = ObjectStore.open(str(tmp_path))
    seconds = []
    for own_id in content:
        begun = time.monotonic()
        with pytest.raises(DamagedError):
            store.read(own_id)
        seconds.append(time.monotonic() - begun)
    assert sum(seconds[1:]) < len(seconds) / 2 * seconds[0]


def test_an_object_is_found_while_gcs_hand_its_pack_to_and_fro(tmp_path: Path) -> None:
    store = ObjectStore.init(str(tmp_path))
    with store.writer("test") as writer:
        block, record = writer.put(b"some bytes"), writer.put_record("commit", b"a record")
        writer.finish()
    ended = threading.Event()

    def hand(number: int) -> None:
        """As a gc does that puts packs aside and finds out that they are needed."""
        trash = Path(files.staging_name(store.layout.trash))
        trash.mkdir()
        while not ended.is_set():
            for source, target in ((Path(store.layout.packs), trash), (trash, Path(store.layout.packs))):
                for path in sorted(source.iterdir()):
                    files.rename(path, target / path.name)
                time.sleep(0.004 * number)

    hands = [threading.Thread(target=hand, args=(number,)) for number in (1, 2)]
    for one in hands:
        one.start()
    try:
        for _ in range(100):
            fresh = ObjectStore.open(str(tmp_path))
            assert fresh.find(block).found.all() or fresh.read(block) == b"some bytes"
            assert ObjectStore.open(str(tmp_path)).has(block)
            assert ObjectStore.open(str(tmp_path)).read_record("commit", record) == b"a record"
    finally:
        ended.set()
        for one in hands:
            one.join()
