"""gc: what nothing needs goes, nothing else ever does, whoever is at work and wherever it is cut off."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpstore import files, gc
from mpstore.codecs import Format, Level
from mpstore.errors import ConflictError, DamagedError, StorageError, UsageError
from mpstore.files import Operation
from mpstore.ids import block_id
from mpstore.reachability import hold
from mpstore.records.model import Parent
from mpstore.repository import Repo
from mpstore.store import Hint, ObjectStore
from mpstore.store.layout import pack_ids
from tests.command import Inline
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
from tests.store_material import bf16_block


def pack_bytes(repo: Repo) -> int:
    return sum(path.stat().st_size for path in Path(repo.objects.layout.packs).glob("*.pack"))


def test_what_refs_reach_stays_and_what_they_left_goes(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    kept, dropped = some_content(1), some_content(2)
    kept_id = commit(repo, "kept", kept)
    commit(repo, "dropped", dropped)
    remove_branch(repo, "dropped")
    before = pack_bytes(repo)
    dry = collect(repo, dry_run=True)
    assert pack_bytes(repo) == before
    report = collect(repo)
    assert pack_bytes(repo) == report.pack_bytes_after < before == report.pack_bytes_before
    assert (dry.removed_objects, dry.removed_packs) == (report.removed_objects, report.removed_packs)
    assert report.removed_objects >= 9 + 3  # blocks and tensor records at least
    assert content_of(Repo.open(repo.root), kept_id) == kept
    fresh = ObjectStore.open(repo.root)
    assert not any(fresh.contains(block_id(block)) for blocks in dropped.values() for block in blocks)
    assert os.listdir(repo.objects.layout.trash) == os.listdir(repo.objects.layout.sessions) == []
    again = collect(repo)
    assert (again.removed_objects, again.removed_packs) == (0, 0)


def test_a_reflog_entry_in_its_window_keeps_what_it_names(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    first = commit(repo, "main", some_content(1))
    repo.refs.move("heads/main", first, None, "drop", "")
    report = gc.collect(Repo.open(repo.root))
    assert report.removed_objects == report.removed_reflog_entries == 0
    assert content_of(Repo.open(repo.root), first) == some_content(1)
    assert collect(repo).removed_reflog_entries == 1
    with pytest.raises(DamagedError):
        Repo.open(repo.root).commit(first)


def test_history_and_other_parents_keep_what_they_name(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    base = commit(repo, "base", some_content(1))
    expert = commit(repo, "expert", some_content(2))
    first = commit(repo, "merged", some_content(3), parents=(Parent("base", base), Parent("expert", expert)))
    second = commit(repo, "merged", some_content(4))
    for branch in ("base", "expert"):
        remove_branch(repo, branch)
    collect(repo, repack_all=True)
    again = Repo.open(repo.root)
    for seed, commit_id in ((1, base), (2, expert), (3, first), (4, second)):
        assert content_of(again, commit_id) == some_content(seed)


def test_invariant_06_a_base_that_deltas_lean_on_stays(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    base = some_content(1, blocks=6)
    tuned = tuned_content(base, 5)
    commit(repo, "base", base)
    expert = commit(repo, "expert", tuned, base)
    remove_branch(repo, "base")
    report = collect(repo)
    assert report.kept_for_deltas_objects == 9
    again = Repo.open(repo.root)
    assert content_of(again, expert) == tuned
    remove_branch(again, "expert")
    collect(repo)
    assert pack_bytes(repo) == 0


def test_mostly_dead_packs_are_rewritten_and_many_small_ones_put_together(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, pack_bytes=1 << 20)
    contents = {f"b{i}": some_content(i, 1, 2) for i in range(24)}
    ids = {branch: commit(repo, branch, content) for branch, content in contents.items()}
    for i in range(0, 24, 4):
        remove_branch(repo, f"b{i}")
    count = len(pack_ids(repo.objects.layout.packs))
    report = collect(repo)
    assert report.repacked_packs >= 32
    assert len(pack_ids(repo.objects.layout.packs)) == 2 < count
    again = Repo.open(repo.root)
    for branch, commit_id in ids.items():
        if int(branch[1:]) % 4:
            assert content_of(again, commit_id) == contents[branch]


def test_compression_encodes_anew_without_changing_an_id_or_the_depth_of_deltas(tmp_path: Path) -> None:
    repo = Repo.open(new_repository(tmp_path).root)
    repo.objects.options = type(repo.objects.options)(1024, Level.FAST, True)
    base = some_content(1, 2, 6)
    tuned = tuned_content(base, 3)
    ids = commit(repo, "base", base), commit(repo, "expert", tuned, base)
    before = pack_bytes(repo)
    report = collect(repo, compression=Level.MAX)
    assert report.repacked_objects > 20
    assert pack_bytes(repo) <= before
    again = Repo.open(repo.root)
    assert (content_of(again, ids[0]), content_of(again, ids[1])) == (base, tuned)
    for numbered in again.objects.packs.tables():
        based = numbered.table.base_ids(range(numbered.table.rows))
        bases = based[based.any(axis=1)]
        assert not again.objects.packs.locate(bases).based.any()


def test_invariant_06_what_a_running_writer_leans_on_stays(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    content = some_content(1)
    commit(repo, "main", content)
    pinned = commit(repo, "pinned", some_content(2))
    for branch in ("main", "pinned"):
        remove_branch(repo, branch)
    other = Repo.open(repo.root)
    with other.objects.writer("running") as writer:
        for block in content["layer0.weight"]:
            assert writer.adopt(block_id(block))
        writer.pin_commit(pinned)
        new = writer.put(bf16_block(999), Hint(Format.BF16))
        writer.flush()
        report = collect(repo)
        assert any("running" in line for line in report.kept_by_sessions)
        fresh = Repo.open(repo.root)
        assert all(fresh.objects.contains(block_id(block)) for block in content["layer0.weight"])
        assert content_of(fresh, pinned) == some_content(2)
        assert fresh.objects.contains(new)
    collect(repo)
    assert pack_bytes(repo) == 0


def run_with_fault(root: str, number: int, kind: str) -> bool:
    """gc with an error at its operation `number`; False when it has fewer."""
    fault = Fault(number, kind)
    with contextlib.suppress(StorageError, KeyboardInterrupt), striking(fault):
        gc.collect(Repo.open(root), keep_reflog_ns=0, repack_all=True)
    return fault.met


@pytest.mark.parametrize("kind", ["EIO", "interrupt"])
def test_a_fault_in_gc_loses_nothing(tmp_path: Path, kind: str) -> None:
    repo = new_repository(tmp_path / "original", 2048)
    kept = some_content(1, 1, 4)
    commit(repo, "base", kept)
    tuned = tuned_content(kept, 4)
    expert = commit(repo, "expert", tuned, kept)
    commit(repo, "gone", some_content(2, 1, 3))
    for branch in ("gone", "base"):
        remove_branch(repo, branch)
    number = tried = 0
    while True:
        number += 4 if tried else 1 + (kind == "EIO")  # test_faults tries them all
        tried += 1
        root = tmp_path / "copy"
        shutil.copytree(repo.root, root / ".mp")
        reached = run_with_fault(str(root), number, kind)
        assert content_of(Repo.open(root), expert) == tuned, f"operation {number}"
        gc.collect(Repo.open(root), keep_reflog_ns=0, repack_all=True)
        again = Repo.open(root)
        assert content_of(again, expert) == tuned, f"operation {number}"
        assert not again.objects.contains(block_id(some_content(2, 1, 3)["layer0.weight"][0]))
        shutil.rmtree(root)
        if not reached:
            break
    assert tried > 6


def test_a_gc_that_was_killed_is_healed_by_reading_and_by_the_next_gc(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    content = some_content(1)
    kept = commit(repo, "kept", content)
    commit(repo, "gone", some_content(2))
    remove_branch(repo, "gone")
    code = (
        "import os, sys; from pathlib import Path; from mpstore import gc, files;"
        "from mpstore.repository import Repo; from mpstore.store.layout import Layout;"
        "repo = Repo.open(sys.argv[1]); layout = repo.objects.layout;"
        "trash = files.staging_name(layout.trash); os.mkdir(trash);"
        "[os.rename(p, Path(trash) / p.name) for p in Path(layout.packs).iterdir()];"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert pack_ids(repo.objects.layout.packs) == set()
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert content_of(Repo.open(tmp_path / "copy"), kept) == content
    collect(repo)
    assert content_of(Repo.open(tmp_path), kept) == content
    assert os.listdir(repo.objects.layout.trash) == []
    assert not Repo.open(tmp_path).objects.contains(block_id(some_content(2)["layer0.weight"][0]))


def test_what_the_dead_left_is_swept_and_what_the_living_have_is_not(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    commit(repo, "main", some_content(1))
    code = (
        "import os, sys; from mpstore.repository import Repo; from mpstore.files import StagedFile;"
        "repo = Repo.open(sys.argv[1]); w = repo.objects.writer('killed'); w.put(b'x' * 100);"
        "s = StagedFile(repo.objects.layout.tmp); s.write(b'half'); s.flush(); os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    process.wait()
    living = files.StagedFile(repo.objects.layout.tmp)
    assert len(os.listdir(repo.objects.layout.tmp)) == 3
    said = rf"killed \(pid {process.pid} on .+, begun .+ ago; session .+\)"
    for report in (collect(repo, dry_run=True), collect(repo)):
        assert [bool(re.fullmatch(said, line)) for line in report.dead_sessions] == [True], report
        assert report.removed_temporary_files == 2, report
    assert report.removed_sessions == 1
    assert os.listdir(repo.objects.layout.tmp) == [os.path.basename(living.path)]
    living.discard()
    os.rmdir(repo.objects.layout.tmp)
    assert collect(repo, dry_run=True).removed_temporary_files == 0


def test_a_session_of_another_host_is_kept_and_named(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    content = some_content(1)
    commit(repo, "main", content)
    pack = next(iter(pack_ids(repo.objects.layout.packs)))
    remove_branch(repo, "main")
    path = Path(repo.objects.layout.sessions) / "1f.17.deadbeef.deadbeef-1.session"
    path.write_bytes(
        b'{"label": "add", "host": "elsewhere", "pid": 31, "begun_ns": 5}\n\npack %s\n' % pack.hex().encode()
    )
    report = collect(repo)
    assert len(report.foreign_sessions) == 1
    assert all(part in report.foreign_sessions[0] for part in ("elsewhere", "31", "days", path.stem))
    assert pack_ids(repo.objects.layout.packs) == {pack}
    assert path.exists()


FOREIGN = "1f.17.deadbeef.deadbeef-1"


@pytest.mark.parametrize("word", ["elsewhere", FOREIGN])
def test_a_session_of_another_host_goes_when_it_is_declared_dead(tmp_path: Path, word: str) -> None:
    repo = new_repository(tmp_path)
    commit(repo, "main", some_content(1))
    packs = pack_ids(repo.objects.layout.packs)
    remove_branch(repo, "main")
    sessions = Path(repo.objects.layout.sessions)
    text = b'{"label": "add", "host": "%s", "pid": 31, "begun_ns": 5}\n\npack %s\n'
    for host, name in ((b"elsewhere", FOREIGN), (b"third", "2f.17.deadbeef.0eadbeef-1")):
        (sessions / f"{name}.session").write_bytes(text % (host, min(packs).hex().encode()))
    with pytest.raises(UsageError, match="no session"):
        collect(repo, dropped_sessions=[word, "nowhere"])
    dry = collect(repo, dropped_sessions=[word, "third"], dry_run=True)
    assert len(list(sessions.iterdir())) == 2
    assert dry.removed_packs == len(packs)
    report = collect(repo, dropped_sessions=[word])
    assert [FOREIGN in line for line in report.dropped_sessions] == [True]
    assert ["third" in line for line in report.foreign_sessions] == [True]
    assert pack_ids(repo.objects.layout.packs) == {min(packs)}
    collect(repo, dropped_sessions=["third"])
    assert pack_ids(repo.objects.layout.packs) == set()


def test_a_living_session_of_this_host_is_not_dropped_and_a_dropped_writer_commits_nothing(
    tmp_path: Path,
) -> None:
    repo = new_repository(tmp_path)
    with repo.objects.writer("alive") as writer:
        (path,) = Path(repo.objects.layout.sessions).iterdir()
        with pytest.raises(UsageError, match="runs on this host"):
            collect(repo, dropped_sessions=[path.stem])
        assert path.exists()
        writer.put(b"x" * 1000)
        writer.flush()
        path.unlink()  # as another host that thinks it dead would do
        with pytest.raises(ConflictError, match="declared dead"):
            writer.finish()


def test_a_record_that_is_lost_stops_gc_and_a_block_that_is_lost_does_not(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    content = some_content(1)
    kept = commit(repo, "kept", content)
    commit(repo, "gone", some_content(2))
    remove_branch(repo, "gone")
    places = repo.objects.locate(kept + block_id(content["layer0.weight"][0]))
    for i, stops in ((0, True), (1, False)):
        pack = Path(repo.objects.layout.packs) / f"{repo.objects.packs.ids[int(places.pack[i])].hex()}.pack"
        pack.rename(tmp_path / "aside")
        if stops:
            before = pack_bytes(repo)
            with pytest.raises(DamagedError, match="nothing was removed"):
                collect(repo)
            assert pack_bytes(repo) == before
        else:
            assert collect(repo).removed_objects > 0
        (tmp_path / "aside").rename(pack)
    assert content_of(Repo.open(tmp_path), kept) == content


def test_invariant_06_a_damaged_pack_that_would_be_rewritten_stays(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    content = some_content(1)
    kept = commit(repo, "kept", content)
    victim = block_id(content["layer1.weight"][1])
    place = repo.objects.packs.place(victim)
    assert place is not None
    pack = Path(repo.objects.layout.packs) / f"{repo.objects.packs.ids[place.pack].hex()}.pack"
    bits = bytearray(pack.read_bytes())
    bits[place.offset + place.frame_bytes - 20] ^= 255
    pack.write_bytes(bits)
    report = collect(repo, compression=Level.MAX)
    assert report.damaged_packs == (pack.stem,)
    assert pack.exists()
    fresh = Repo.open(tmp_path)
    manifest = fresh.manifest(fresh.commit(kept).manifest)
    assert fresh.read_tensor(manifest, "layer0.weight").size == 192


def test_a_name_can_be_given_to_what_only_the_trash_has_but_not_to_what_is_gone(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    content = some_content(1)
    lost = commit(repo, "lost", content)
    remove_branch(repo, "lost")
    layout = repo.objects.layout
    trash = Path(files.staging_name(layout.trash))
    trash.mkdir()
    for path in Path(layout.packs).iterdir():
        path.rename(trash / path.name)
    late = Repo.open(tmp_path)
    with hold(late, lost):
        late.refs.move("heads/again", None, lost, "found again", "")
    assert content_of(Repo.open(tmp_path), lost) == content
    remove_branch(late, "again")
    collect(repo)
    with pytest.raises(DamagedError), hold(Repo.open(tmp_path), lost):
        pytest.fail("it held what is gone")


def test_the_command_says_who_holds_what_and_how_to_declare_it_dead(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    commit(repo, "main", some_content(1))
    remove_branch(repo, "main")
    pack = min(pack_ids(repo.objects.layout.packs))
    text = b'{"label": "add x", "host": "elsewhere", "pid": 31, "begun_ns": 5}\n\npack %s\n'
    session = Path(repo.objects.layout.sessions, f"{FOREIGN}.session")
    session.write_bytes(text % pack.hex().encode())
    mp = Inline(tmp_path)
    said = mp("gc", "--keep-reflog", "0").out
    assert f"add x (pid 31 on elsewhere, begun {time.time_ns() // (24 * 3600 * 10**9)} days" in said
    assert FOREIGN in said
    assert "--drop-sessions" in said
    assert "loses what it is about to commit" in said
    assert "no session" in mp("gc", "--drop-sessions", "nowhere", code=2).err
    assert "would declare dead: add x" in mp("gc", "--dry-run", "--drop-sessions", "elsewhere").out
    assert mp.json("gc", "--keep-reflog", "0", "--drop-sessions", "elsewhere")["removed_packs"] == 1
    assert not session.exists()


def test_the_command_says_what_bases_it_lets_go_of(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(1, 1, 1)
    commit(repo, "base", base)
    commit(repo, "expert", tuned_content(base, 5), base)
    remove_branch(repo, "base")
    mp = Inline(tmp_path)
    assert "would let go of 1 base" in mp("gc", "--keep-reflog", "0", "--repack", "--dry-run").out
    said = mp("gc", "--keep-reflog", "0", "--repack").out
    assert "let go of 1 base" in said
    assert "1 block anew" in said
    index = next(Path(repo.objects.layout.packs).glob("*.idx"))
    index.unlink()
    assert f"note: index {index.stem}" in mp("fsck", "--read-data").out
    assert "rebuilt from its pack" in mp("fsck", "--repair").out
    assert index.exists()


@pytest.mark.parametrize("options", [(), ("--repack",), ("--dry-run",)])
def test_the_command_warns_of_blocks_that_are_lost(tmp_path: Path, options: tuple[str, ...]) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    content = some_content(1)
    commit(repo, "base", content)
    mp = Inline(tmp_path)
    assert mp("gc", *options).err == ""
    assert "warnings" not in mp.json("gc", *options)
    fresh = Repo.open(repo.root).objects
    place = fresh.packs.place(block_id(content["layer1.weight"][1]))
    assert place is not None
    pack = Path(fresh.layout.packs) / f"{fresh.packs.ids[place.pack].hex()}.pack"
    pack.unlink()
    pack.with_suffix(".idx").unlink()
    said = mp("gc", *options).err
    assert "10 objects in use are missing" in said  # nine of tensors, and a header
    assert "`mp fsck`" in said
    assert len(mp.json("gc", *options)["warnings"]) == 1
    mp("fsck", code=4)


def test_a_pack_with_bytes_that_nothing_accounts_for_stays_as_it_is(tmp_path: Path) -> None:
    """Its index is lost and a frame's header damaged: what that frame holds may be had by hand still."""
    repo = new_repository(tmp_path, 1 << 20)
    content = some_content(1)
    commit(repo, "kept", content)
    place = repo.objects.packs.place(block_id(content["layer1.weight"][1]))
    assert place is not None
    pack = Path(repo.objects.layout.packs) / f"{repo.objects.packs.ids[place.pack].hex()}.pack"
    bits = bytearray(pack.read_bytes())
    bits[place.offset + 10] ^= 255
    pack.write_bytes(bits)
    pack.with_suffix(".idx").unlink()
    collect(Repo.open(tmp_path), compression=Level.MAX)
    assert pack.read_bytes() == bits


def gc_beside_another(root: Path, when: Callable[[Operation], bool], what: Callable[[], None]) -> None:
    """A gc, at one of whose operations somebody else does something."""
    waiting = [what]

    def meanwhile(operation: Operation) -> None:
        if waiting and when(operation):
            waiting.pop()()

    files.set_observer(meanwhile)
    try:
        collect(Repo.open(root), repack_all=True)
    finally:
        files.set_observer(None)
    assert not waiting


def test_two_gcs_may_clear_away_what_a_dead_one_left(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    commit(repo, "base", some_content(1))
    left = [Path(repo.objects.layout.trash) / name for name in ("1.1.00000000.0-1", "1.1.00000000.0-2")]
    for directory in left:
        directory.mkdir()
        (directory / "x.idx").touch()
    gc_beside_another(tmp_path, lambda one: one.path.startswith(str(left[0])), lambda: shutil.rmtree(left[1]))
    assert not any(directory.exists() for directory in left)
    assert content_of(Repo.open(tmp_path), repo.tip("base") or b"") == some_content(1)


def test_a_directory_of_refs_may_go_while_gc_makes_refs_durable(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    commit(repo, "base", some_content(1))
    commit(repo, "gone", some_content(2))
    remove_branch(repo, "gone")
    heads = Path(repo.root) / "refs" / "heads"
    (heads / "empty").mkdir()
    empty = heads / "empty"
    gc_beside_another(tmp_path, lambda one: (one.kind, one.path) == ("fsync_dir", str(empty)), empty.rmdir)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_two_gcs_may_sweep_the_same_temporary_files(tmp_path: Path, what: str) -> None:
    repo = new_repository(tmp_path)
    commit(repo, "base", some_content(1))
    left = [Path(repo.objects.layout.tmp) / name for name in ("a", "b", "c")]
    for path in left:
        path.touch() if what == "file" else path.mkdir()
        os.utime(path, (0, 0))

    def sweep() -> None:
        for path in left:
            path.unlink() if what == "file" else path.rmdir()

    gc_beside_another(tmp_path, lambda one: Path(one.path) in left, sweep)
    assert not os.listdir(repo.objects.layout.tmp)
