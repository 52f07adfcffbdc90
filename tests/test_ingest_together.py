"""Several checkpoints, and files of one, coming in side by side: what one by one gives comes out."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import families
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpstore
from mpstore import checkpoint_dir, export, fsck, gc, ingest, kernels
from mpstore.codecs import Level
from mpstore.errors import ConflictError, DamagedError, IncompatibleError, MpError
from mpstore.ingest import FoundBase, Said, Source, base_tensors
from mpstore.ingest.base_tensors import SharedBlocks
from mpstore.ingest.crew import Crew
from mpstore.records.config import Config
from mpstore.repository import Repo
from mpstore.store.pack import BLOCKS, PackFile
from mpstore.store.scanning import scan

SMALL = Config(block_elements=256, pack_bytes=1 << 14, threads=2)


EACH_WAY = pytest.mark.parametrize("mode", ["auto", "numpy"])
"""Hashes side by side, as far as this machine has kernels for it, and one after the other."""


@pytest.fixture
def mode() -> str:
    """What a test has that is not run each way."""
    return "auto"


@pytest.fixture
def repo(mode: str, tmp_path: Path) -> Iterator[Repo]:
    kernels.select(mode)
    yield Repo.init(tmp_path / "repo", SMALL)
    kernels.select("auto")


@pytest.fixture
def family(tmp_path: Path) -> families.Family:
    return families.write_family(tmp_path / "family", experts=["math", "code", "prose", "chat"])


def sources(family: families.Family) -> list[Source]:
    return [Source(path, name) for name, path in family.experts.items()]


def manifests(repo: Repo) -> dict[str, bytes]:
    found = {}
    for full in repo.refs.names("heads/"):
        tip = repo.tip(full.removeprefix("heads/"))
        assert tip is not None
        found[full] = repo.commit(tip).manifest
    return found


def sharded(directory: Path, tensors: families.Tensors, files: int) -> Path:
    """The tensors dealt out to so many files."""
    directory.mkdir(parents=True)
    for number in range(files):
        own = dict(list(tensors.items())[number::files])
        (directory / f"model-{number}.safetensors").write_bytes(families.safetensors_bytes(own))
    (directory / "config.json").write_text("{}")
    return directory


@EACH_WAY
def test_side_by_side_is_as_one_by_one(repo: Repo, family: families.Family, tmp_path: Path) -> None:
    """The same manifests and statistics, and every byte comes out again."""
    other = Repo.init(tmp_path / "other", SMALL)
    some = sources(family)[:2]
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    there = ingest.add(other, family.base, "base").commit
    for source in some:
        ingest.add(other, source.path, source.branch, base=there)
    done = ingest.add_all(repo, some, Said(base))
    assert [one.branch for one in done] == [one.branch for one in some]
    assert manifests(repo) == manifests(other)
    for path, name in ((Path(one.path), one.branch) for one in some):
        commit = repo.tip(name)
        assert commit is not None
        expert, root = repo.commit(commit).manifest, repo.commit(base.commit).manifest
        ours, theirs = repo.statistics(root, expert), other.statistics(root, expert)
        assert ours is not None
        assert theirs is not None
        assert np.array_equal(ours.delta_sq, theirs.delta_sq)
        assert np.array_equal(ours.equal, theirs.equal)
        export.checkout(repo, commit, tmp_path / "out" / name)
        for file in path.iterdir():
            assert (tmp_path / "out" / name / file.name).read_bytes() == file.read_bytes()
    assert not fsck.check(repo, read_data=True).damage


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 20), st.integers(0, 1 << 20))
def test_files_of_one_checkpoint(tmp_path_factory: pytest.TempPathFactory, files: int, seed: int) -> None:
    """More than go side by side, too; whoever is first, the manifest is that of the directory."""
    root = tmp_path_factory.mktemp("shards")
    tensors = families.base_tensors("BF16", seed)
    directory = sharded(root / "model", tensors, files)
    repo = Repo.init(root / "repo", SMALL)
    added = ingest.add(repo, directory, "model")
    export.checkout(repo, added.commit, root / "out")
    for file in directory.iterdir():
        assert (root / "out" / file.name).read_bytes() == file.read_bytes()
    kernels.select("numpy")  # where files come one after the other
    try:
        alone = ingest.add(Repo.init(root / "alone", SMALL), directory, "model")
    finally:
        kernels.select("auto")
    assert alone.committed.manifest == added.committed.manifest


def test_the_base_is_decoded_once_for_all(
    family: families.Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels.pick("sha256").lanes() == 1:
        pytest.skip("files come one after the other here")
    repo = Repo.init(tmp_path / "repo", SMALL)
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    read: list[bytes] = []
    load = base_tensors.BaseTensor._read

    def counting(self: base_tensors.BaseTensor, rows: list[int]) -> dict[int, base_tensors.Bytes]:
        read.extend(self.block(row) for row in rows)
        return load(self, rows)

    monkeypatch.setattr(base_tensors.BaseTensor, "_read", counting)
    ingest.add_all(repo, sources(family), Said(base))
    assert read
    assert len(read) == len(set(read))


@EACH_WAY
def test_one_that_fails_ends_all_and_nothing_is_committed(
    repo: Repo, family: families.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    broken = sorted(family.experts["code"].glob("*.safetensors"))[0]
    read = checkpoint_dir.scan(family.experts["code"])
    broken.write_bytes(broken.read_bytes()[:-100])  # after the scan, as a file that is still being written
    scan = checkpoint_dir.scan
    looking = sys.modules["mpstore.ingest.looking"]
    monkeypatch.setattr(looking, "scan", lambda path: read if path == family.experts["code"] else scan(path))
    with pytest.raises(DamagedError, match="model-"):
        ingest.add_all(repo, sources(family), Said(base))
    assert list(repo.refs.names("heads/")) == ["heads/base"]
    assert not [one for one in threading.enumerate() if one.name.startswith("mp-")]
    assert not fsck.check(repo, read_data=True).damage


def test_more_than_go_at_once_come_in_groups(
    repo: Repo, family: families.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with them, and what a group brought is committed before the next begins."""
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    adding = sys.modules["mpstore.ingest.add"]
    monkeypatch.setattr(adding, "_MOST_TOGETHER", 3)
    done = ingest.add_all(repo, sources(family), Said(base))
    assert [one.branch for one in done] == list(family.experts)
    assert all(one.committed.created for one in done)
    broken = sorted(family.experts["chat"].glob("*.safetensors"))[0]  # of the fourth
    content = broken.read_bytes()
    scans = {path: checkpoint_dir.scan(path) for path in family.experts.values()}
    broken.write_bytes(content[:-100])
    Path(repo.root, "cache", "stat-cache").unlink(missing_ok=True)
    monkeypatch.setattr(sys.modules["mpstore.ingest.looking"], "scan", lambda path: scans[path])
    again = [Source(source.path, f"again-{source.branch}") for source in sources(family)]
    with pytest.raises(DamagedError):
        ingest.add_all(repo, again, Said(base))
    names = [name for name in repo.refs.names("heads/") if "again" in name]
    assert names == [f"heads/again-{name}" for name in sorted(["math", "code", "prose"])]


@EACH_WAY
def test_one_that_does_not_fit_is_refused_before_anything_is_stored(
    repo: Repo, family: families.Family, tmp_path: Path
) -> None:
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    stranger = families.write_checkpoint(tmp_path / "stranger", {"other": np.zeros(100, np.float32)})
    before = {path.name for path in Path(repo.root, "objects", "packs").iterdir()}
    with pytest.raises(IncompatibleError, match="stranger"):
        ingest.add_all(repo, [*sources(family), Source(stranger, "stranger")], Said(base))
    assert {path.name for path in Path(repo.root, "objects", "packs").iterdir()} == before


@pytest.fixture
def moving(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch `code` comes to be elsewhere just before its checkpoint is committed."""
    commit = ingest.CheckpointWriter.commit

    def late(self: ingest.CheckpointWriter, branch: str, *args: object, **words: object) -> ingest.Committed:
        if branch == "code":
            repo.refs.move("heads/code", None, repo.tip("base") or b"", "meanwhile", "")
        return commit(self, branch, *args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest.CheckpointWriter, "commit", late)


@pytest.mark.usefixtures("moving")
def test_a_branch_that_moved_meanwhile_loses_none_of_the_others(repo: Repo, family: families.Family) -> None:
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    with pytest.raises(ConflictError):
        ingest.add_all(repo, sources(family), Said(base))
    assert list(repo.refs.names("heads/")) == ["heads/base", "heads/code", "heads/math"]
    assert not fsck.check(repo, read_data=True).damage


@pytest.mark.usefixtures("moving")
def test_an_error_says_which_checkpoints_are_in_already(repo: Repo, family: families.Family) -> None:
    named = [(family.base, "base"), *((path, name) for name, path in family.experts.items())]
    with pytest.raises(ConflictError, match=r"; already added: base, math$"):
        mpstore.Repository.open(repo.root).add_all(named, base="base")


def test_what_two_bring_at_once_is_one_copy_after_gc(
    repo: Repo, family: families.Family, tmp_path: Path
) -> None:
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    twin = Path(shutil.copytree(family.experts["math"], tmp_path / "twin"))
    done = ingest.add_all(repo, [Source(family.experts["math"], "math"), Source(twin, "twin")], Said(base))
    assert done[0].committed.manifest == done[1].committed.manifest
    gc.collect(Repo.open(repo.root), repack_all=True)
    assert not fsck.check(repo, read_data=True).damage
    packs = sum(path.stat().st_size for path in Path(repo.root, "objects", "packs").glob("*.pack"))
    alone = Repo.init(tmp_path / "alone", SMALL)
    ingest.add(alone, family.base, "base")
    ingest.add(alone, twin, "math")
    gc.collect(Repo.open(alone.root), repack_all=True)
    one = sum(path.stat().st_size for path in Path(alone.root, "objects", "packs").glob("*.pack"))
    assert packs < one * 1.05


def twins(repo: Repo, family: families.Family, tmp_path: Path) -> list[Path]:
    """The packs of two branches, "math" and "twin", which brought the same blocks at the same time."""
    base = FoundBase("base", ingest.add(repo, family.base, "base").commit)
    before = set(Path(repo.root, "objects", "packs").glob("*.pack"))
    twin = Path(shutil.copytree(family.experts["math"], tmp_path / "twin"))
    (twin / "more.txt").write_text("another pack, by its bytes")
    ingest.add_all(repo, [Source(family.experts["math"], "math"), Source(twin, "twin")], Said(base))
    packs = sorted(set(Path(repo.root, "objects", "packs").glob("*.pack")) - before)
    blocks = [pack for pack in packs if scan(PackFile(str(pack))).kind == BLOCKS]
    assert len(blocks) == 2, "not stored twice: this test has nothing to look at"
    return blocks


def damaged(root: Path, name: str, twin: str, step: int) -> Iterator[int]:
    """Flip a bit in every `step`-th frame of a pack that its twin has as well, one after the other."""
    pack = Path(root, "objects", "packs", name)
    os.chmod(pack, 0o644)
    copies = {entry.header.id for entry in scan(PackFile(str(pack.with_name(twin)))).entries}
    entries = [entry for entry in scan(PackFile(str(pack))).entries if entry.header.id in copies]
    for number, entry in enumerate(entries[::step]):
        data = bytearray(pack.read_bytes())
        data[entry.offset + (entry.header.frame_bytes - 1) * (number % 3) // 2] ^= 4
        pack.write_bytes(bytes(data))
        yield number


def is_exact(repo: Repo, family: families.Family, to: Path) -> bool:
    for branch in ("math", "twin"):
        commit = repo.tip(branch)
        assert commit is not None
        export.checkout(repo, commit, to / branch)
    files = [path for path in family.experts["math"].iterdir() if path.is_file()]
    same = all((to / "twin" / path.name).read_bytes() == path.read_bytes() for path in files)
    shutil.rmtree(to)
    return same


LARGE_PACKS = Config(block_elements=256, pack_bytes=1 << 24, threads=2)


def test_a_second_copy_is_taken_where_the_first_is_damaged(tmp_path: Path, family: families.Family) -> None:
    """Whichever of the two a table names first, and wherever the damage is; a merge takes it, too."""
    repo = Repo.init(tmp_path / "repo", LARGE_PACKS)
    one, other = (pack.name for pack in twins(repo, family, tmp_path))
    words = {"base": "base", "experts": ["math:weight=.3", "twin"], "operator": "linear"}
    mpstore.Repository.open(repo.root).merge("merged", **words)
    right = manifests(repo)["heads/merged"]
    for name, twin in ((one, other), (other, one)):
        root = Path(shutil.copytree(repo.root, tmp_path / name))
        for _ in damaged(root, name, twin, 260):
            assert is_exact(Repo.open(root), family, tmp_path / "out")
            shutil.rmtree(root / "cache" / "memo", ignore_errors=True)
            mpstore.Repository.open(root).merge("merged", **words)
            assert manifests(Repo.open(root))["heads/merged"] == right


@pytest.mark.parametrize("compression", [None, pytest.param(Level.MAX, marks=pytest.mark.slow)])
def test_gc_takes_a_second_copy_before_it_goes(
    tmp_path: Path, family: families.Family, compression: Level | None
) -> None:
    """Of blocks that are stored twice one copy goes. It is not the only one that is whole."""
    repo = Repo.init(tmp_path / "repo", LARGE_PACKS)
    one, other = (pack.name for pack in twins(repo, family, tmp_path))
    for name, twin in ((one, other), (other, one)):
        root = Path(shutil.copytree(repo.root, tmp_path / name))
        assert list(damaged(root, name, twin, 30))
        gc.collect(Repo.open(root), repack_all=True, compression=compression)
        assert not fsck.check(Repo.open(root), read_data=True).damage
        assert is_exact(Repo.open(root), family, tmp_path / "out")


# What they share


def test_shared_blocks_are_loaded_once_and_forgotten_in_turn() -> None:
    shared = SharedBlocks(250)
    loaded: list[int] = []

    def load(rows: object) -> dict[int, np.ndarray]:
        assert isinstance(rows, list)
        loaded.extend(rows)
        return {row: np.full(100, row, np.uint8) for row in rows}

    ids = {row: bytes([row]) * 32 for row in range(4)}
    assert [raw[0] for raw in shared.read({0: ids[0], 1: ids[1]}, load).values()] == [0, 1]
    shared.read({0: ids[0]}, load)
    assert loaded == [0, 1]
    shared.read({2: ids[2]}, load)  # 1 was asked for least recently
    shared.read({0: ids[0], 2: ids[2]}, load)
    assert loaded == [0, 1, 2]
    shared.read({1: ids[1]}, load)
    assert loaded == [0, 1, 2, 1]


def test_shared_blocks_of_one_id_in_one_call() -> None:
    shared = SharedBlocks(1000)
    own = bytes(32)
    found = shared.read({3: own, 5: own}, lambda rows: {row: np.zeros(8, np.uint8) for row in rows})
    assert set(found) == {3, 5}


def test_what_cannot_be_read_fails_for_all_who_wait_and_is_tried_again() -> None:
    shared = SharedBlocks(1000)
    began, go_on = threading.Event(), threading.Event()
    errors: list[MpError] = []

    def fail(_: object) -> dict[int, np.ndarray]:
        began.set()
        go_on.wait(30)
        raise DamagedError("pack")

    def ask() -> None:
        try:
            shared.read({0: bytes(32)}, fail)
        except MpError as error:
            errors.append(error)

    waiting = [threading.Thread(target=ask) for _ in range(3)]
    waiting[0].start()
    began.wait(30)
    for thread in waiting[1:]:
        thread.start()
    go_on.set()
    for thread in waiting:
        thread.join()
    assert len(errors) == 3
    found = shared.read({0: bytes(32)}, lambda rows: {row: np.ones(8, np.uint8) for row in rows})
    assert found[0].sum() == 8


def test_a_crew_of_many_files_keeps_no_more_in_memory() -> None:
    with Crew(2) as one, Crew(2, 8) as eight, Crew(2, 800, 100) as many:
        assert many.depth == eight.depth <= one.depth
        assert one.shared is None
