"""gc and the bases of deltas: which are let go, which given, and that every block can be decoded after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpstore import files, fsck, gc
from mpstore.codecs import Format, Level
from mpstore.errors import DamagedError
from mpstore.ids import ObjectId, block_id
from mpstore.records.config import Config
from mpstore.records.model import Parent
from mpstore.repository import Repo
from mpstore.store import Hint, ObjectWriter
from mpstore.store.pack import PackFile
from tests.repository_material import (
    Content,
    collect,
    commit,
    content_of,
    new_repository,
    remove_branch,
    some_content,
    tuned_content,
)
from tests.store_material import ELEMENTS


def noisy(block: bytes, seed: int, steps: int) -> bytes:
    """The block with every element moved by up to `steps` units in the last place."""
    bits = np.frombuffer(block, np.uint16).copy()
    bits += np.random.default_rng(seed).integers(0, steps + 1, bits.size).astype(np.uint16)
    return bits.tobytes()


def sparse(block: bytes, seed: int) -> bytes:
    """The block with three elements moved far."""
    bits = np.frombuffer(block, np.uint16).copy()
    generator = np.random.default_rng(seed)
    bits[generator.choice(bits.size, 3, replace=False)] += generator.integers(1, 1 << 15, 3).astype(np.uint16)
    return bits.tobytes()


def bases_of(repo: Repo, content: Content) -> set[ObjectId]:
    """What the content's blocks lean on."""
    ids = b"".join(block_id(block) for blocks in content.values() for block in blocks)
    return {one.tobytes() for one in Repo.open(repo.root).objects.locate(ids).base_ids if one.any()}


def check_whole(repo: Repo, contents: dict[ObjectId, Content]) -> None:
    """Every commit has its content, deltas are one deep, and nothing is damaged."""
    fresh = Repo.open(repo.root)
    for commit_id, content in contents.items():
        assert content_of(fresh, commit_id) == content
    assert fsck.check(Repo.open(repo.root), read_data=True).damage == ()
    for numbered in fresh.objects.packs.tables():
        bases = numbered.table.bases
        found = fresh.objects.packs.locate(bases)
        assert found.found.all()
        assert not found.based.any()


def test_invariant_06_a_delta_that_nothing_needs_does_not_outlive_its_base(tmp_path: Path) -> None:
    """Else whoever stores the same block again would lean on something that cannot be decoded."""
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(1, 1, 1)
    tuned = tuned_content(base, 3)
    much = {"a": some_content(5, 1, 12)["layer0.weight"]}
    commit(repo, "base", base)
    commit(repo, "both", {**much, **tuned}, base)
    kept = commit(repo, "much", much)
    for branch in ("base", "both"):
        remove_branch(repo, branch)
    collect(repo)
    assert not Repo.open(tmp_path).objects.contains(block_id(base["layer0.weight"][0]))
    check_whole(repo, {kept: much})
    again = commit(Repo.open(tmp_path), "again", tuned)
    check_whole(repo, {kept: much, again: tuned})


@pytest.mark.parametrize("seed", range(4))  # which of two copies is found first hangs on the names of packs
def test_invariant_06_a_delta_without_its_base_is_stored_anew_and_read_past(
    tmp_path: Path, seed: int
) -> None:
    """As stores are that an earlier gc left: the delta is there, its base is not."""
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(10 + seed, 1, 1)
    tuned = tuned_content(base, 3)
    bits = np.frombuffer(tuned["layer0.weight"][0], np.uint16) + np.uint16(1)
    other = {"layer0.weight": [bits.astype(np.uint16).tobytes()]}
    commit(repo, "base", base)
    commit(repo, "tuned", tuned, base)
    place = repo.objects.packs.place(block_id(base["layer0.weight"][0]))
    assert place is not None
    for suffix in (".pack", ".idx"):
        Path(repo.objects.layout.packs, repo.objects.packs.ids[place.pack].hex() + suffix).unlink()
    commit(Repo.open(tmp_path), "other", other)
    again = commit(Repo.open(tmp_path), "again", tuned, other)  # a delta too: two copies that lean
    assert content_of(Repo.open(tmp_path), again) == tuned
    for branch in ("base", "tuned"):
        remove_branch(repo, branch)
    collect(repo)
    check_whole(repo, {again: tuned})


def family(
    repo: Repo,
    experts: int,
    blocks: int = 2,
    change: Callable[[bytes, int], bytes] = lambda block, seed: noisy(block, seed, 1),
) -> dict[ObjectId, Content]:
    """Experts of a base that is deleted: all that they lean on is kept for them alone."""
    base = some_content(1, 1, blocks)
    commit(repo, "base", base)
    contents: dict[ObjectId, Content] = {}
    for i in range(experts):
        content = {
            key: [change(block, 100 * i + j) for j, block in enumerate(column)]
            for key, column in base.items()
        }
        contents[commit(repo, f"expert{i}", content, base)] = content
    remove_branch(repo, "base")
    return contents


@pytest.mark.parametrize("experts", [1, 2, 5])
def test_a_base_that_only_deltas_need_goes_where_that_is_smaller(tmp_path: Path, experts: int) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, experts)
    assert collect(repo).kept_for_deltas_objects == 2  # without --repack they stay
    dry = collect(repo, repack_all=True, dry_run=True)
    report = collect(repo, repack_all=True)
    assert report.released_bases_objects == dry.released_bases_objects == 2
    assert report.rebased_objects == dry.rebased_objects == 2 * experts
    assert report.released_bases_bytes == dry.released_bases_bytes > report.rebased_growth_bytes
    assert 0 < report.repack_written_bytes - dry.repack_written_bytes <= 16  # a header for each pack
    assert report.kept_for_deltas_objects == 0
    assert len({base for content in contents.values() for base in bases_of(repo, content)}) == 2 * (
        experts > 1
    )
    check_whole(repo, contents)
    after = report.pack_bytes_after
    assert collect(repo, repack_all=True).pack_bytes_after <= after


def test_a_base_stays_where_its_deltas_would_grow_by_more(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 48, 1, sparse)
    report = collect(repo, repack_all=True)
    assert (report.released_bases_objects, report.kept_for_deltas_objects) == (0, 1)
    check_whole(repo, contents)


def test_deltas_lean_on_another_block_of_their_place_where_there_is_one(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(1, 1, 2)
    beside = {key: [noisy(block, 7, 1) for block in column] for key, column in base.items()}
    tuned = {key: [noisy(block, 8, 1) for block in column] for key, column in base.items()}
    commit(repo, "base", base)
    contents = {
        commit(repo, "beside", beside): beside,
        commit(repo, "tuned", tuned, base): tuned,
        commit(repo, "unrelated", some_content(3, 1, 2)): some_content(3, 1, 2),
    }
    remove_branch(repo, "base")
    report = collect(repo, repack_all=True)
    assert report.released_bases_objects == 2
    assert set() < bases_of(repo, tuned) <= {block_id(block) for block in beside["layer0.weight"]}
    check_whole(repo, contents)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
def test_any_family_is_whole_and_never_larger_than_with_its_bases(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    repo = Repo.init(tmp_path / "repo", Config(block_elements=ELEMENTS, pack_bytes=3000))
    bases = [some_content(i, 2, 3) for i in range(3)]
    bases.append({key: [noisy(b, 1, 2) for b in column] for key, column in bases[0].items()})
    for i, base in enumerate(bases):
        commit(repo, f"base{i}", base)
    contents: dict[ObjectId, Content] = {}
    for i in range(8):
        base = bases[generator.integers(4)]
        steps = int(generator.integers(0, 4))
        content = {key: [noisy(b, i, steps) for b in column] for key, column in base.items()}
        contents[commit(repo, f"expert{i}", content, base)] = content
    for i in range(4):
        if generator.random() < 0.7:
            remove_branch(repo, f"base{i}")
    shutil.copytree(tmp_path / "repo", tmp_path / "copy")
    compression = Level.MAX if seed % 2 else None
    report = collect(repo, repack_all=True, compression=compression)
    assert report.released_bases_objects
    check_whole(repo, contents)
    kept = collect(Repo.open(tmp_path / "copy"), repack_all=False)
    live = kept.pack_bytes_after
    assert report.pack_bytes_after <= live
    again = collect(repo, repack_all=True, compression=compression)
    assert again.pack_bytes_after <= report.pack_bytes_after


def test_compression_gives_blocks_a_base_that_a_parent_has(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(1, 2, 3)
    tuned = {key: [noisy(block, 8, 1) for block in column] for key, column in base.items()}
    further = {key: [noisy(block, 9, 1) for block in column] for key, column in tuned.items()}
    first = commit(repo, "base", base)
    second = commit(repo, "tuned", tuned, parents=(Parent("base", first),))
    third = commit(repo, "tuned", further)  # the previous commit of its branch is its parent
    unrelated = commit(repo, "other", some_content(4, 2, 3), parents=(Parent("base", first),))
    contents = {first: base, second: tuned, third: further, unrelated: some_content(4, 2, 3)}
    before = collect(repo).pack_bytes_after
    assert not bases_of(repo, {**tuned, **further})
    assert collect(repo, repack_all=True).given_bases_objects == 0
    report = collect(repo, compression=Level.DEFAULT)
    assert report.given_bases_objects > 5  # where it is smaller: a base costs 32 bytes of header
    assert report.pack_bytes_after < before
    everything = {block_id(block) for column in base.values() for block in column}
    assert set() < bases_of(repo, {**tuned, **further}) <= everything
    check_whole(repo, contents)
    again = collect(repo, compression=Level.DEFAULT)
    assert (again.given_bases_objects, again.pack_bytes_after) == (0, report.pack_bytes_after)


def test_a_block_that_others_lean_on_is_given_no_base(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    old = some_content(1, 2, 3)
    new = {key: [noisy(block, 8, 1) for block in column] for key, column in old.items()}
    expert = {key: [noisy(block, 9, 1) for block in column] for key, column in new.items()}
    first = commit(repo, "old", old)
    second = commit(repo, "new", new, parents=(Parent("base", first),))
    contents = {first: old, second: new, commit(repo, "expert", expert, new): expert}
    leant_on = bases_of(repo, expert)
    assert leant_on
    collect(repo, compression=Level.DEFAULT)
    assert bases_of(repo, expert) == leant_on
    check_whole(repo, contents)


def test_no_base_is_changed_while_a_command_has_pinned_commits(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 2)
    bases = bases_of(repo, next(iter(contents.values())))
    with Repo.open(tmp_path).objects.writer("merge") as writer:
        writer.pin_commit(next(iter(contents)))
        for options in ({"repack_all": True}, {"compression": Level.MAX}):
            report = collect(repo, **options)
            assert (report.released_bases_objects, report.given_bases_objects) == (0, 0)
    assert bases_of(repo, next(iter(contents.values()))) == bases
    check_whole(repo, contents)


def test_a_command_that_pins_a_commit_meanwhile_has_the_old_bases_back(tmp_path: Path) -> None:
    """It may have located the old frames before they were put aside, and counts on these."""
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 2)
    commit_id, content = next(iter(contents.items()))
    bases = bases_of(repo, content)
    late = Repo.open(tmp_path)
    writers: list[ObjectWriter] = []

    def begin(operation: files.Operation) -> None:
        if operation.kind == "rename" and "/trash/" in str(operation.target) and not writers:
            writers.append(late.objects.writer("merge"))
            writers[0].pin_commit(commit_id)

    files.set_observer(begin)
    try:
        collect(repo, repack_all=True)
    finally:
        files.set_observer(None)
    places = Repo.open(tmp_path).objects.locate(b"".join(bases))
    assert places.found.all()
    check_whole(repo, contents)
    writers[0].close()
    assert collect(repo, repack_all=True).removed_objects > 0
    assert not Repo.open(tmp_path).objects.locate(b"".join(bases)).found.any()
    check_whole(repo, contents)


def test_a_frame_that_was_read_before_its_base_went_is_decoded_from_the_new_copy(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 2)
    reader = Repo.open(tmp_path)
    blocks = [block for content in contents.values() for block in content["layer0.weight"]]
    frames = list(reader.objects.fetch(reader.objects.locate(b"".join(map(block_id, blocks)))))
    assert all(frame.needs_base for frame in frames)
    assert collect(repo, repack_all=True).released_bases_objects == 2
    assert [reader.objects.decode(frame).tobytes() for frame in frames] == [blocks[f.row] for f in frames]
    with pytest.raises(DamagedError):
        reader.objects.read(frames[0].base)


def test_invariant_06_a_writer_that_leans_on_a_base_keeps_it(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 1)
    base = some_content(1, 1, 2)["layer0.weight"][0]
    with Repo.open(tmp_path).objects.writer("late") as writer:
        new = noisy(base, 99, 1)
        writer.put(new, Hint(Format.BF16, block_id(base), base))
        writer.flush()
        collect(repo, repack_all=True)
        assert Repo.open(tmp_path).objects.read(block_id(new)).tobytes() == new
    collect(repo, repack_all=True)
    check_whole(repo, contents)


def test_a_base_is_not_let_go_while_a_delta_on_it_is_pinned(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 2)
    block = next(iter(contents.values()))["layer0.weight"][0]
    place = repo.objects.packs.place(block_id(block))
    assert place is not None
    with Repo.open(tmp_path).objects.writer("leaning") as writer:
        assert writer.hold_pack(repo.objects.packs.ids[place.pack])
        assert collect(repo, repack_all=True).released_bases_objects == 0
        check_whole(repo, contents)
    assert collect(repo, repack_all=True).released_bases_objects == 2


def test_invariant_06_a_base_stays_for_a_second_gc_that_copies_deltas_on_it(tmp_path: Path) -> None:
    """Both have decided; the first would let go of a base while the second copies what leans on it."""
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(1, 1, 2)
    tuned = {key: [noisy(block, j, 1) for j, block in enumerate(column)] for key, column in base.items()}
    commit(repo, "base", base)
    commit(repo, "both", {**tuned, "dead": some_content(7, 1, 6)["layer0.weight"]}, base)
    contents = {commit(repo, "tuned", tuned): tuned}
    for branch in ("base", "both"):
        remove_branch(repo, branch)
    done: list[gc.GcReport] = []

    def first(operation: files.Operation) -> None:
        if operation.kind == "create" and "/.mp/tmp/" in str(operation.path) and not done:
            done.append(gc.GcReport(dry_run=True))
            done[0] = collect(repo, repack_all=True)

    second = Repo.open(tmp_path)
    files.set_observer(first)
    try:
        report = gc.collect(second, keep_reflog_ns=0)
    finally:
        files.set_observer(None)
    assert report.repacked_objects > 0
    assert not done[0].dry_run
    check_whole(repo, contents)
    assert collect(repo, repack_all=True).released_bases_objects == 2
    check_whole(repo, contents)


def test_a_damaged_delta_keeps_its_base(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    contents = family(repo, 3)
    victim = block_id(next(iter(contents.values()))["layer0.weight"][0])
    place = repo.objects.packs.place(victim)
    assert place is not None
    pack = Path(repo.objects.layout.packs, repo.objects.packs.ids[place.pack].hex() + ".pack")
    PackFile(str(pack))
    whole = pack.read_bytes()
    bits = bytearray(whole)
    bits[place.offset + place.frame_bytes - 3] ^= 255
    pack.write_bytes(bits)
    report = collect(repo, repack_all=True)
    assert report.released_bases_objects == 1  # of the other block's group
    pack.write_bytes(whole)
    check_whole(repo, contents)
