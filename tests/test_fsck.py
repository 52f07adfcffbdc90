"""fsck: all damage is found and named with what it touches; repair mends and never makes it worse."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpstore import files, fsck, ingest
from mpstore.errors import DamagedError, MpError, NotFoundError, StorageError, UsageError
from mpstore.ids import block_id
from mpstore.repository import Repo
from mpstore.store import packindex, set_read_observer
from mpstore.store.layout import pack_ids
from mpstore.store.pack import BLOCKS, RECORDS, PackFile
from mpstore.store.scanning import scan
from tests.families import fine_tuned, write_checkpoint
from tests.faults import Fault, striking
from tests.repository_material import (
    collect,
    commit,
    content_of,
    new_repository,
    remove_branch,
    some_content,
    tuned_content,
)

CONTENT = some_content(1, 3, 4)
TUNED = tuned_content(CONTENT, 9)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a branch and a fine-tune of it that leans on it, in packs of many objects."""
    repo = new_repository(tmp_path / "repo", 1 << 20)
    commit(repo, "base", CONTENT)
    commit(repo, "expert", TUNED, CONTENT)
    return tmp_path / "repo"


def check(root: Path, **options: object) -> fsck.FsckReport:
    return fsck.check(Repo.open(root), **options)  # type: ignore[arg-type]


def repair(root: Path, **options: object) -> fsck.FsckReport:
    return fsck.repair(Repo.open(root), **options)  # type: ignore[arg-type]


def pack_of(root: Path, branch: str, records: bool) -> Path:
    """The pack that holds the branch's commit record, or its blocks."""
    repo = Repo.open(root)
    tip = repo.tip(branch)
    assert tip is not None
    wanted = tip if records else block_id((CONTENT if branch == "base" else TUNED)["layer1.weight"][2])
    place = repo.objects.packs.place(wanted)
    assert place is not None
    return Path(repo.objects.layout.packs) / f"{repo.objects.packs.ids[place.pack].hex()}.pack"


def whole(root: Path, branch: str) -> bool:
    repo = Repo.open(root)
    tip = repo.tip(branch)
    if tip is None:
        return False
    try:
        return content_of(repo, tip) == (CONTENT if branch == "base" else TUNED)
    except (DamagedError, NotFoundError):
        return False


def test_a_whole_repository_is_found_whole(root: Path) -> None:
    for options in ({}, {"read_data": True}, {"subset": fsck.parse_subset("50%")}):
        report = check(root, **options)
        assert (report.damage, report.touched, report.exit_code) == ((), (), 0)
        assert report.packs == 4
        assert report.objects == report.reachable_objects
    report = check(root, read_data=True)
    assert report.read_objects == report.objects
    assert repair(root).repaired == ()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "delete": lambda path: path.unlink(),
    "truncate": lambda path: path.write_bytes(path.read_bytes()[: len(path.read_bytes()) * 2 // 3]),
    "flip": lambda path: path.write_bytes(flipped(path.read_bytes())),
}
STRAY: dict[str, Callable[[bytes, int], bytes]] = {
    "behind": lambda data, _: data + b"x",
    "zeros behind": lambda data, _: data + bytes(5000),
    "between": lambda data, at: data[:at] + b"mpF1 is how a frame begins" + data[at:],
}


def flipped(data: bytes) -> bytes:
    bits = bytearray(data)
    bits[len(bits) // 2] ^= 1
    return bytes(bits)


VICTIMS: dict[str, Callable[[Path], Path]] = {
    "pack": lambda root: pack_of(root, "expert", records=False),
    "index": lambda root: pack_of(root, "expert", records=False).with_suffix(".idx"),
    "record": lambda root: pack_of(root, "expert", records=True),
    "record's index": lambda root: pack_of(root, "expert", records=True).with_suffix(".idx"),
    "ref": lambda root: root / ".mp" / "refs" / "heads" / "expert",
    "reflog": lambda root: root / ".mp" / "logs" / "heads" / "expert" / "@1",
}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("way", DAMAGE)
def test_damage_matrix(root: Path, tmp_path: Path, way: str, victim: str) -> None:
    shutil.copytree(root, tmp_path / "copy")
    DAMAGE[way](VICTIMS[victim](root))
    report = check(root, read_data=True)
    if way == "delete" and "index" in victim:  # the pack has it all; see below
        assert (report.exit_code, len(report.notes)) == (0, 1)
        assert whole(root, "expert")
        return
    if (way, victim) == ("delete", "ref"):  # the log has it all, as after a crash between the two
        assert report.exit_code == 0
        assert whole(root, "expert")
        return
    assert report.exit_code == 4
    assert report.damage
    assert whole(root, "base")  # never more than what was damaged
    lost = victim in ("pack", "record")
    assert whole(root, "expert") != lost
    if lost:
        assert {ref for one in report.touched for ref in one.refs} == {"heads/expert"}
    mended = repair(root)
    assert mended.repaired
    assert whole(root, "base")
    assert (mended.exit_code == 0) == (not lost)
    if lost:
        mended = repair(root, sources=[str(tmp_path / "copy")])
    assert mended.damage_left == ()
    assert whole(root, "expert")
    assert check(root, read_data=True).exit_code == 0


def test_a_directory_in_the_place_of_a_ref_is_damage_unless_the_ref_is_deleted(root: Path) -> None:
    ref = VICTIMS["ref"](root)
    ref.unlink()
    ref.mkdir()
    report = check(root)
    assert report.exit_code == 4
    assert [str(ref) in one.detail for one in report.damage] == [True]
    assert whole(root, "expert")
    assert repair(root).exit_code == 0
    assert ref.is_file()
    remove_branch(Repo.open(root), "expert")
    commit(Repo.open(root), "expert/two", CONTENT)
    assert ref.is_dir()
    assert check(root).exit_code == 0


@pytest.mark.parametrize("records", [False, True], ids=["blocks", "records"])
@pytest.mark.parametrize("way", STRAY)
def test_bytes_that_belong_to_nothing_cost_nothing(root: Path, way: str, records: bool) -> None:
    """What is salvaged is the pack as it was, so it has the name of the damaged one, and stays."""
    path = pack_of(root, "expert", records=records)
    was = path.read_bytes()
    end = max(entry.offset for entry in scan(PackFile(str(path))).entries)
    path.write_bytes(STRAY[way](was, end))
    stray = path.read_bytes()
    assert whole(root, "expert") == (way != "between")  # the index says where frames were
    mended = repair(root)
    assert (mended.exit_code, mended.damage_left) == (0, ())
    assert any("salvaged" in line for line in mended.repaired)
    assert path.read_bytes() == was
    assert (root / ".mp" / "objects" / "quarantine" / path.name).read_bytes() == stray
    assert whole(root, "base")
    assert whole(root, "expert")
    assert repair(root).repaired == ()


@pytest.mark.parametrize("way", [pytest.param("stray", marks=pytest.mark.slow), "flip"])
def test_a_fault_at_any_operation_of_a_repair_makes_nothing_worse(
    root: Path, tmp_path: Path, way: str
) -> None:
    path = pack_of(root, "expert", records=False)
    path.write_bytes(path.read_bytes() + b"x" if way == "stray" else flipped(path.read_bytes()))
    lost = {one.name for one in check(root, read_data=True).damage if one.what == "object"}
    readable = [branch for branch in ("base", "expert") if whole(root, branch)]
    number, copy = 1, tmp_path / "copy"
    while True:
        shutil.copytree(root, copy)
        with contextlib.suppress(StorageError), striking(Fault(number, "EIO")) as fault:
            repair(copy)
        assert all(whole(copy, branch) for branch in readable), number
        repair(copy)
        left = {one.name for one in check(copy, read_data=True).damage if one.what == "object"}
        assert left <= lost, number
        assert all(whole(copy, branch) for branch in readable), number
        shutil.rmtree(copy)
        if not fault.met:
            break
        number += 1
    assert number > 11


def test_a_whole_pack_without_an_index_is_a_note_and_a_damaged_one_is_damage(root: Path) -> None:
    """What a full disk or a crash leaves between pack and index, and an index whose pack is gone."""
    pack = pack_of(root, "expert", records=False)
    pack.with_suffix(".idx").unlink()
    orphan = pack.with_name("ab" * 32 + ".idx")
    shutil.copy(pack_of(root, "base", records=True).with_suffix(".idx"), orphan)
    report = check(root, read_data=True)
    assert (report.damage, report.exit_code) == ((), 0)
    assert {(one.what, one.name) for one in report.notes} == {("index", pack.stem), ("index", orphan.stem)}
    mended = repair(root)
    assert len(mended.repaired) == 2
    assert mended.exit_code == 0
    assert pack.with_suffix(".idx").exists()
    assert not orphan.exists()
    assert check(root).notes == ()
    assert whole(root, "expert")
    pack.with_suffix(".idx").unlink()
    DAMAGE["truncate"](pack)
    damaged = check(root)
    assert damaged.exit_code == 4
    assert ("index", pack.stem) in {(one.what, one.name) for one in damaged.damage}
    assert damaged.notes == ()


@pytest.mark.parametrize("way", DAMAGE)
def test_damage_matrix_of_the_config(root: Path, way: str) -> None:
    path = root / ".mp" / "config"
    text = path.read_text()
    DAMAGE[way](path)
    if way == "flip":
        path.write_text(text.replace("format", "fprmat"))
    if way == "truncate":
        path.write_text(text[:50])
    with pytest.raises(MpError) as caught:
        Repo.open(root)
    assert str(path) in caught.value.message
    path.write_text(text)
    assert whole(root, "expert")


def test_what_is_touched_is_named_to_the_tensor(root: Path) -> None:
    path = pack_of(root, "base", records=False)
    repo = Repo.open(root)
    victim = block_id(CONTENT["layer1.weight"][0])
    place = repo.objects.packs.place(victim)
    assert place is not None
    bits = bytearray(path.read_bytes())
    bits[place.offset + place.frame_bytes - 30] ^= 255
    path.write_bytes(bits)
    assert check(root).exit_code == 0  # connectivity alone does not read blocks
    report = check(root, read_data=True)
    assert {(one.refs, one.tensor) for one in report.touched} == {
        (("heads/base",), "layer1.weight"),
        (("heads/expert",), "layer1.weight"),  # by a delta that leans on it
    }
    assert any(one.name == victim.hex() and one.kind == "block" for one in report.damage)
    assert any(one.what == "pack" and one.name == path.stem for one in report.damage)


def test_every_good_object_is_salvaged_and_the_pack_put_aside(root: Path) -> None:
    path = pack_of(root, "base", records=False)
    DAMAGE["flip"](path)
    before = check(root, read_data=True)
    lost = {one.name for one in before.damage if one.what == "object"}
    mended = repair(root)
    assert any("salvaged" in line for line in mended.repaired)
    assert not path.exists()
    assert (root / ".mp" / "objects" / "quarantine" / path.name).exists()
    after = check(root, read_data=True)
    assert {one.name for one in after.damage if one.what == "object"} <= lost
    assert {one.what for one in after.damage} <= {"object"}
    report = repair(root)
    assert report.repaired == ()  # what cannot be mended is left as it is


def test_a_delta_whose_base_is_lost_waits_for_it(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    bases = pack_of(root, "base", records=False)
    deltas = pack_of(root, "expert", records=False)
    bases.unlink()
    bits = bytearray(deltas.read_bytes())
    bits[-10] ^= 1
    deltas.write_bytes(bits)
    repair(root)
    repair(root, sources=[str(tmp_path / "copy")])
    assert check(root, read_data=True).exit_code == 0
    assert whole(root, "expert")


def test_blocks_and_tensor_records_come_back_from_plain_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {f"layer{i}": generator.standard_normal((16, 32)).astype(np.float32) for i in range(4)}
    base = write_checkpoint(tmp_path / "base", tensors)
    math = write_checkpoint(tmp_path / "math", fine_tuned(tensors, 1, untouched=["layer0"]))
    repo = new_repository(tmp_path / "repo", 1 << 20)
    ingest.add(repo, str(base), "base")
    ingest.add(repo, str(math), "math", base=repo.tip("base"))
    before = check(tmp_path / "repo", read_data=True)
    assert before.exit_code == 0
    for path in Path(repo.objects.layout.packs).glob("*.pack"):
        fresh = Repo.open(tmp_path / "repo").objects
        kinds = {info.id.hex(): info.kind for n in fresh.packs.tables() for info in n.table.packs}
        if kinds[path.stem] == 0:
            DAMAGE["truncate"](path)
    assert check(tmp_path / "repo").exit_code == 4
    report = repair(tmp_path / "repo", sources=[str(base), str(math)])
    assert report.damage_left == ()
    assert any("taken from another copy" in line for line in report.repaired)
    assert check(tmp_path / "repo", read_data=True).exit_code == 0


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that has statistics, in a pack of blocks and one of records; its checkpoints beside it."""
    top = tmp_path_factory.mktemp("family")
    tensors = {f"layer{i}": np.random.default_rng(i).standard_normal((8, 32)).astype("f4") for i in range(2)}
    repo = new_repository(top / "repo", 1 << 20)
    ingest.add(repo, str(write_checkpoint(top / "base", tensors)), "base")
    tuned = write_checkpoint(top / "math", fine_tuned(tensors, 1))
    ingest.add(repo, str(tuned), "math", base=repo.tip("base"))
    collect(repo, repack_all=True)
    return top


def replaced(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


LOSSES: dict[str, Callable[[Path], None]] = {
    "delete": DAMAGE["delete"],
    "empty": lambda path: replaced(path, Path.touch),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "directory": lambda path: replaced(path, Path.mkdir),
    "pipe": lambda path: replaced(path, os.mkfifo),
    "directory, no index": lambda path: (path.with_suffix(".idx").unlink(), replaced(path, Path.mkdir))[1],
}


@pytest.mark.parametrize("kind", [BLOCKS, RECORDS])
@pytest.mark.parametrize("way", LOSSES)
def test_a_copy_of_the_repository_makes_it_whole(family: Path, tmp_path: Path, way: str, kind: int) -> None:
    """Also where what is lost are records of statistics, which no commit names."""
    root = tmp_path / "repo"
    shutil.copytree(family / "repo", root)
    packs = Repo.open(root).objects.packs.tables()
    (name,) = [info.id.hex() for one in packs for info in one.table.packs if info.kind == kind]
    pack = root / ".mp" / "objects" / "packs" / f"{name}.pack"
    LOSSES[way](pack)
    from_files = repair(root, sources=[str(family / "base"), str(family / "math")])
    assert (from_files.exit_code == 0) == (kind == BLOCKS)
    report = repair(root, sources=[str(family / "repo")])
    assert report.damage_left == ()
    assert check(root, read_data=True).exit_code == 0
    assert len(Repo.open(root).refs.names("stats/")) == 1


def test_a_source_that_is_not_there_is_an_error_before_anything_is_done(root: Path) -> None:
    with pytest.raises(NotFoundError):
        repair(root, sources=[str(root / "nothing")])


def test_check_writes_nothing(root: Path) -> None:
    DAMAGE["flip"](pack_of(root, "base", records=False))
    seen: list[str] = []
    files.set_observer(lambda operation: seen.append(operation.kind))
    try:
        check(root, read_data=True)
    finally:
        files.set_observer(None)
    assert seen == []


def test_indexes_and_the_cache_are_checked_against_their_checksums(root: Path) -> None:
    cache = root / ".mp" / "cache" / "packs.idx"
    cache.write_bytes(b"rubbish")
    orphan = root / ".mp" / "objects" / "packs" / ("ab" * 32 + ".idx")
    shutil.copy(pack_of(root, "base", records=True).with_suffix(".idx"), orphan)
    report = repair(root)
    assert not cache.exists()
    assert not orphan.exists()
    assert len(report.repaired) == 2
    assert whole(root, "expert")


def test_subsets_cover_everything_once(root: Path) -> None:
    total = check(root, read_data=True).read_objects
    parts = [check(root, subset=fsck.parse_subset(f"{n}/3")).read_objects for n in (1, 2, 3)]
    assert sum(parts) == total
    assert all(parts)
    generator = np.random.default_rng(0)
    prefix = generator.integers(0, 1 << 63, 10_000).astype(np.uint64)
    assert 800 < fsck.parse_subset("10%").choose(prefix, generator).sum() < 1200
    assert 800 < fsck.parse_subset("1000").of(10_000).choose(prefix, generator).sum() < 1200
    assert fsck.parse_subset("20000").of(10_000).choose(prefix, generator).all()
    assert fsck.parse_subset("1KB") == fsck.Subset(size_bytes=1000)
    for text in ("0/3", "4/3", "", "0%", "101%", "x", "-1", "1/0", "0"):
        with pytest.raises(UsageError):
            fsck.parse_subset(text)


def test_a_subset_of_a_size_is_that_of_all_packs_together(root: Path) -> None:
    all_bytes = check(root, read_data=True).read_bytes
    tenth = fsck.parse_subset(str(all_bytes // 10))
    assert sum(check(root, subset=tenth).read_bytes for _ in range(5)) / 5 < all_bytes / 4


def test_repair_with_a_subset_loses_nothing_that_it_did_not_read(root: Path) -> None:
    DAMAGE["flip"](pack_of(root, "base", records=False))
    lost = {one.name for one in check(root, read_data=True).damage if one.what == "object"}
    for n in range(1, 5):
        repair(root, subset=fsck.parse_subset(f"{n}/4"), read_data=False)
    after = {one.name for one in check(root, read_data=True).damage if one.what == "object"}
    assert after <= lost
    assert len(pack_ids(Repo.open(root).objects.layout.packs)) == 4


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("branch", ["base", "expert"])
@pytest.mark.parametrize("leads", ["in circles", "nowhere"])
def test_a_pack_that_cannot_be_opened_is_left_where_it_is(
    root: Path, leads: str, branch: str, indexed: bool
) -> None:
    """As where permissions are missing, or the disk that a pack was moved to."""
    pack = pack_of(root, branch, records=False)
    index, away = pack.with_suffix(".idx"), pack.with_suffix(".away")
    if not indexed:
        index.unlink()
    pack.rename(away)
    pack.symlink_to(pack if leads == "in circles" else root / "nowhere")
    report = repair(root)
    assert report.exit_code == 4
    assert report.repaired == ()
    assert report.damage_left
    assert pack.is_symlink()
    assert index.exists() == indexed  # none that hides what is in the pack
    away.replace(pack)
    assert whole(root, "expert")
    assert check(root, read_data=True).exit_code == 0


@pytest.mark.parametrize("branch", ["base", "expert"])
def test_records_that_are_closed_to_us_are_damage_and_end_neither_fsck_nor_what_is_there(
    root: Path, branch: str
) -> None:
    pack = pack_of(root, branch, records=True)
    away = pack.with_suffix(".away")
    pack.rename(away)
    pack.symlink_to(pack)  # in circles: as without permission
    assert check(root).exit_code == 4
    report = check(root, read_data=True)
    assert {ref for one in report.touched for ref in one.refs} >= {f"heads/{branch}"}
    with pytest.raises(DamagedError, match="nothing was removed"):
        collect(Repo.open(root))
    assert repair(root).exit_code == 4
    pack.unlink()
    away.rename(pack)
    assert whole(root, "base")
    assert whole(root, "expert")
    assert check(root, read_data=True).exit_code == 0


def test_counts_after_a_repair_are_those_of_what_is_there_then(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    whole_report = check(root)
    pack_of(root, "expert", records=True).unlink()
    mended = repair(root, sources=[str(tmp_path / "copy")])
    assert mended.exit_code == 0
    assert mended.reachable_objects == whole_report.reachable_objects


@pytest.mark.parametrize("wrong", ["offset", "frame_bytes", "raw_bytes", "form", "base_row", "rows"])
def test_an_index_with_its_checksum_that_says_something_else_is_found_and_mended(
    root: Path, wrong: str
) -> None:
    pack = pack_of(root, "expert", records=False)
    index = pack.with_suffix(".idx")
    table = packindex.verify(str(index))
    if wrong == "rows":
        lying = packindex.build(table.packs[0], [])
    else:
        lying = replace(table, **{wrong: np.roll(getattr(table, wrong), 1)})
    if wrong != "rows" and packindex.same(lying, table):
        lying = replace(table, **{wrong: getattr(table, wrong) ^ 1})
    index.write_bytes(packindex.to_bytes(lying))
    assert any((one.what, one.name) == ("index", pack.stem) for one in check(root, read_data=True).damage)
    assert repair(root).damage_left == ()
    assert whole(root, "expert")
    assert check(root, read_data=True).exit_code == 0


class BadStretch:
    """A disk that cannot read some bytes of a file: every read that touches them fails."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._path, self._start, self._stop = str(path), start, stop

    def __call__(self, path: str, offset: int, length: int, _: str) -> None:
        if path == self._path and offset < self._stop and offset + length > self._start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs of several pages."""
    root = tmp_path_factory.mktemp("large") / "repo"
    commit(new_repository(root, 1 << 24), "base", some_content(1, 50, 6))
    return root


@pytest.mark.parametrize("kind", [BLOCKS, RECORDS])
@pytest.mark.parametrize(("where", "indexed"), [("inside", False), ("to the end", True)])
def test_what_lies_around_an_unreadable_stretch_is_salvaged(
    large: Path, tmp_path: Path, where: str, indexed: bool, kind: int
) -> None:
    root = tmp_path / "repo"
    shutil.copytree(large, root)
    table = packindex.merge([numbered.table for numbered in Repo.open(root).objects.packs.tables()])
    (number,) = [i for i, info in enumerate(table.packs) if info.kind == kind]
    rows = np.flatnonzero(table.pack == number)
    offsets = table.offset[rows].astype(np.int64)
    ends = offsets + table.frame_bytes[rows]
    size = table.packs[number].size_bytes
    # A frame reaches into it whose header can be read.
    start = next(page for page in range(4096, size, 4096) if ((offsets + 70 < page) & (page < ends)).any())
    stop = start + 4096 if where == "inside" else size
    spared = (ends <= start) | (offsets >= stop)
    assert 9 < spared.sum() < len(rows)
    pack = root / ".mp" / "objects" / "packs" / f"{table.packs[number].id.hex()}.pack"
    if not indexed:
        pack.with_suffix(".idx").unlink()
    set_read_observer(BadStretch(pack, start, stop))
    try:
        assert check(root, read_data=True).exit_code == 4
        report = repair(root)
    finally:
        set_read_observer(None)
    assert any("salvaged" in line for line in report.repaired)
    left = Repo.open(root).objects
    for own_id in table.ids(rows[spared]):
        assert left.contains(own_id.tobytes())
        left.read(own_id.tobytes())
    assert not left.locate(table.ids(rows[~spared]).tobytes()).found.any()
