"""Frames, packs and indexes as bytes: round trips, damage, hostile input."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore.codecs import Format, Level
from mpstore.errors import DamagedError, UsageError
from mpstore.ids import block_id, record_id
from mpstore.store import frame as frames
from mpstore.store import lookup, packindex
from mpstore.store.frame import FrameHeader
from mpstore.store.pack import (
    BLOCKS,
    PACK_HEADER_BYTES,
    Entry,
    PackFile,
    PackWriter,
    check_pack_header,
    coalesced,
)
from mpstore.store.packindex import PackInfo
from mpstore.store.scanning import scan
from tests.store_material import bf16_block, fine_tuned

headers = st.builds(
    FrameHeader,
    id=st.binary(min_size=32, max_size=32),
    codec=st.integers(0, 255),
    form=st.integers(0, 255),
    raw_bytes=st.integers(0, frames.MAX_RAW_BYTES),
    segment_bytes=st.lists(st.integers(0, 1 << 20), max_size=6).map(tuple),
    base=st.binary(min_size=32, max_size=32),
)


@given(headers)
def test_a_header_reads_back(header: FrameHeader) -> None:
    data = frames.pack_header(header)
    assert len(data) == header.header_bytes
    assert frames.parse_header(memoryview(data), "x") == header


@given(headers, st.data())
def test_a_header_with_any_bit_flipped_is_damaged(header: FrameHeader, data: st.DataObject) -> None:
    bits = bytearray(frames.pack_header(header))
    place = data.draw(st.integers(0, len(bits) * 8 - 1))
    bits[place // 8] ^= 1 << place % 8
    with pytest.raises(DamagedError):
        frames.parse_header(memoryview(bits), "x")


@given(st.binary(max_size=200))
def test_a_header_of_noise_is_damaged(data: bytes) -> None:
    for start in (b"", frames.MAGIC):
        with pytest.raises(DamagedError):
            frames.parse_header(memoryview(start + data), "x")


def test_a_frame_costs_less_than_a_hundred_bytes() -> None:
    base, raw = bf16_block(1, 4096), fine_tuned(bf16_block(1, 4096), 2)
    header, _ = frames.encode(block_id(raw), raw, Format.BF16, (block_id(base), base), Level.DEFAULT)
    assert header.base == block_id(base)
    assert header.header_bytes < 100


def test_records_and_blocks_are_told_apart_by_the_form() -> None:
    assert frames.record_kind(Format.BF16) is None
    assert frames.record_kind(frames.record_form("plan")) == "plan"
    assert frames.record_kind(0x80 | 99) == "unknown-99"
    assert frames.object_id(frames.record_form("plan"), b"x") == record_id("plan", b"x")
    with pytest.raises(UsageError):
        frames.record_form("nonsense")


def test_coalesced_joins_neighbours_and_nothing_else() -> None:
    places = [(0, 10), (10, 5), (16, 4), (20, 4), (24, 100)]
    assert list(coalesced(places)) == [(0, 2), (2, 5)]
    assert list(coalesced(places, limit_bytes=8)) == [(0, 1), (1, 2), (2, 4), (4, 5)]
    assert list(coalesced([])) == []


def write_pack(directory: Path, blocks: list[bytes]) -> tuple[Path, list[Entry]]:
    writer = PackWriter(str(directory), BLOCKS)
    for raw in blocks:
        writer.append(*frames.encode(block_id(raw), raw, Format.BF16, None, Level.DEFAULT))
    pack_id = writer.seal()
    writer.publish(str(directory), pack_id)
    return directory / f"{pack_id.hex()}.pack", writer.entries


def test_scanning_a_pack_finds_what_was_written(tmp_path: Path) -> None:
    path, entries = write_pack(tmp_path, [bf16_block(i) for i in range(20)])
    found = scan(PackFile(str(path)))
    assert found == type(found)(BLOCKS, tuple(entries), ())
    assert block_id(path.read_bytes()).hex() == path.stem


def test_scanning_a_damaged_pack_finds_every_frame_that_is_whole(tmp_path: Path) -> None:
    path, entries = write_pack(tmp_path, [bf16_block(i) for i in range(20)])
    data = path.read_bytes()
    randomly = random.Random(3)
    for victim in (0, 7, 19):
        bits = bytearray(data)
        bits[entries[victim].offset + randomly.randrange(52)] ^= 4
        path.write_bytes(bits)
        found = scan(PackFile(str(path)))
        assert found.entries == tuple(entries[:victim] + entries[victim + 1 :])
        start = entries[victim].offset
        assert found.damaged == ((start, start + entries[victim].header.frame_bytes),)
    cut = entries[10].offset + 60
    path.write_bytes(data[:cut])
    found = scan(PackFile(str(path)))
    assert found.entries == tuple(entries[:10])
    assert found.damaged == ((entries[10].offset, cut),)
    path.write_bytes(b"\0" * PACK_HEADER_BYTES + data[PACK_HEADER_BYTES:])
    found = scan(PackFile(str(path)))
    assert (found.kind, found.entries, found.damaged) == (None, tuple(entries), ((0, PACK_HEADER_BYTES),))


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(1, 6))
def test_scanning_noise_neither_crashes_nor_loops(noise: bytes, place: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path, _ = write_pack(Path(directory), [bf16_block(1), bf16_block(2)])
        data = path.read_bytes()
        path.write_bytes(data[:place] + (noise + frames.MAGIC) * repeats + data[place:])
        found = scan(PackFile(str(path)))
        assert all(entry.offset + entry.header.frame_bytes <= path.stat().st_size for entry in found.entries)


def some_table(count: int, seed: int, shared_prefix: bool = False) -> tuple[packindex.IndexTable, np.ndarray]:
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, 256, (count, 32)).astype(np.uint8)
    if shared_prefix:
        ids[:, :8] = ids[0, :8]
    entries = [
        Entry(
            FrameHeader(ids[i].tobytes(), 1, 11, 256, (10, i), ids[0].tobytes() if i % 3 == 1 else bytes(32)),
            8 + i,
        )
        for i in range(count)
    ]
    return packindex.build(PackInfo(generator.bytes(32), 1000, BLOCKS), entries), ids


@pytest.mark.parametrize("shared_prefix", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_search_finds_all_and_only_what_is_there(count: int, shared_prefix: bool) -> None:
    table, ids = some_table(count, count, shared_prefix and count > 0)
    rows = table.search(ids)
    assert (rows >= 0).all()
    assert (table.ids(rows) == ids).all()
    assert [int(x) for x in table.offset[rows]] == [8 + i for i in range(count)]
    assert [bool(based) for based in table.base_ids(rows).any(axis=1)] == [i % 3 == 1 for i in range(count)]
    absent = ids.copy()
    absent[:, 31] ^= 1
    assert (table.search(absent) == -1).all()


def test_merged_tables_hold_what_each_held_and_prefer_what_needs_no_base() -> None:
    one, ids_one = some_table(50, 1)
    two, ids_two = some_table(70, 2)
    based, _ = some_table(50, 1)
    merged = packindex.merge([one, two, based])
    assert merged.rows == 170
    assert (merged.ids(merged.search(ids_two)) == ids_two).all()
    everything = packindex.parse(packindex.to_bytes(merged), "x", verify=True)
    assert (everything.search(ids_one) == merged.search(ids_one)).all()
    without = packindex.merge([merged], dropped=[two.packs[0].id])
    assert without.rows == 100
    assert (without.search(ids_two) == -1).all()
    raw, delta = (
        Entry(FrameHeader(b"x" * 32, 0, 0, 1, (1,)), 1),
        Entry(FrameHeader(b"x" * 32, 4, 0, 1, (1,), b"y" * 32), 2),
    )
    for entries in ([raw, delta], [delta, raw]):
        table = packindex.build(PackInfo(b"p" * 32, 1, BLOCKS), entries)
        assert int(table.offset[table.search(packindex.as_ids(b"x" * 32))[0]]) == 1


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_a_damaged_index_is_noticed(place: int, way: int) -> None:
    table, _ = some_table(40, 5)
    data = bytearray(packindex.to_bytes(table))
    place %= len(data)
    if way == 0:
        data[place] ^= 16
    elif way == 1:
        del data[place:]
    else:
        data += b"x"
    with pytest.raises(DamagedError):
        packindex.parse(bytes(data), "x", verify=True)


@given(st.binary(max_size=300))
def test_an_index_of_noise_is_damaged(data: bytes) -> None:
    for start in (b"", packindex.MAGIC):
        with pytest.raises(DamagedError):
            packindex.parse(start + data, "x")


def test_a_pack_of_a_version_to_come_is_refused(tmp_path: Path) -> None:
    path, _ = write_pack(tmp_path, [bf16_block(1)])
    data = bytearray(path.read_bytes())
    data[4] = 2
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="version 2"):
        check_pack_header(PackFile(str(path)))


def wide_table(seed: int, count: int, based: bool) -> tuple[packindex.IndexTable, np.ndarray, np.ndarray]:
    """A table of so many blocks that searches are sorted; the ids and those of the delta bases."""
    generator = np.random.default_rng(seed)
    ids = np.random.default_rng(7).integers(0, 256, (count, 32)).astype(np.uint8)
    bases = generator.integers(1, 256, (5, 32)).astype(np.uint8)[np.arange(count) % 5]
    entries = [
        Entry(
            FrameHeader(ids[i].tobytes(), 1, 11, 256, (10 + i,), bases[i].tobytes() if based else bytes(32)),
            8 + i,
        )
        for i in range(count)
    ]
    return packindex.build(PackInfo(generator.bytes(32), 10**6, BLOCKS), entries), ids, bases


def numbered(*tables: packindex.IndexTable) -> list[lookup.Numbered]:
    return [lookup.Numbered(table, np.array([k], np.int32)) for k, table in enumerate(tables)]


def test_many_ids_in_several_groups_are_found_as_they_are_one_by_one() -> None:
    count = 3000
    table, ids, bases = wide_table(1, count, based=True)
    other, other_ids = some_table(40, 3)
    absent = ids[:100].copy()
    absent[:, 31] ^= 1  # the same first eight bytes
    groups = [ids[::-1], absent, np.concatenate([other_ids, ids[:7]]), ids[:0]]
    found = lookup.find(numbered(table, other), groups)
    assert [int(one.found.sum()) for one in found] == [count, 0, 47, 0]
    assert (found[0].column("offset") == np.arange(count)[::-1] + 8).all()
    assert (found[0].base_ids() == bases[::-1]).all()
    assert found[0].based.all()
    assert not found[1].column("frame_bytes").any()
    assert not found[1].base_ids().any()
    for group, one in zip(groups, found, strict=True):
        alone = [lookup.find(numbered(table, other), [group[i : i + 1]])[0] for i in range(0, len(group), 97)]
        assert all((a.table == one.table[i * 97]).all() for i, a in enumerate(alone))
        assert all((a.row == one.row[i * 97]).all() for i, a in enumerate(alone))


def test_of_two_copies_the_one_without_a_base_is_found_in_whichever_table_it_lies() -> None:
    based, ids, _ = wide_table(1, 2500, based=True)
    plain, _, _ = wide_table(2, 2500, based=False)
    for tables in ((based, plain), (plain, based)):
        found = lookup.find(numbered(*tables), [ids])[0]
        assert not found.based.any()
        assert (found.table == tables.index(plain)).all()
    assert lookup.find(numbered(based, based), [ids])[0].table.max() == 0  # else the first


def test_leaning_elsewhere_is_leaning_on_another_base_than_ones_own() -> None:
    table, ids, bases = wide_table(1, 2500, based=True)
    own = bases.copy()
    own[3, 31] ^= 1
    own[9, 0] ^= 1
    found = lookup.find(numbered(table), [ids])[0]
    assert np.flatnonzero(found.leaning_elsewhere(own)).tolist() == [3, 9]
    plain, _, _ = wide_table(2, 2500, based=False)
    assert not lookup.find(numbered(plain), [ids])[0].leaning_elsewhere(own).any()


def test_a_row_of_a_pack_that_the_index_does_not_list_is_not_found() -> None:
    table, ids, _ = wide_table(1, 2500, based=False)
    pack = table.pack.copy()
    pack[int(table.search(ids[4:5])[0])] = 9
    found = lookup.find(numbered(replace(table, pack=pack)), [ids])[0]
    assert np.flatnonzero(~found.found).tolist() == [4]
