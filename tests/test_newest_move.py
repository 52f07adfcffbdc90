"""A branch whose newest move neither ref file nor log tells: nothing goes, and repair finds the commit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import families
import pytest

from mpstore import export, fsck, gc, ingest
from mpstore.api import Repository
from mpstore.errors import DamagedError
from mpstore.records.config import Config
from mpstore.repository import Repo

SMALL = Config(block_elements=1024, pack_bytes=1 << 20, threads=1)


@pytest.fixture
def family(tmp_path: Path) -> families.Family:
    return families.write_family(tmp_path / "family")


@pytest.fixture
def root(tmp_path: Path, family: families.Family) -> Path:
    """Branch x has been at the base, and is at an expert."""
    repo = Repo.init(tmp_path / "repo", SMALL)
    ingest.add(repo, family.base, "x")
    ingest.add(repo, family.experts["math"], "x")
    return Path(repo.root)


def lagging(root: Path) -> None:
    """The ref file as a crash between entry and ref file leaves it, from a repository at the first move."""
    files = root / "refs" / "heads" / "x", root / "logs" / "heads" / "x" / "@2"
    repo = Repo.open(root)
    (entry,) = [one for one in repo.refs.log("heads/x") if one.seq == 1]
    kept = files[1].read_bytes()
    files[0].unlink()
    files[1].unlink()
    repo.refs.repair("heads/x")
    assert repo.tip("x") == entry.new
    files[1].write_bytes(kept[: len(kept) // 2])


def overwritten(data: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for path in (root / "refs" / "heads" / "x", root / "logs" / "heads" / "x" / "@2"):
            path.write_bytes(data)

    return damage


def missing(root: Path) -> None:
    (root / "refs" / "heads" / "x").unlink()
    (root / "logs" / "heads" / "x" / "@2").write_bytes(b"")


WAYS = {"empty": overwritten(b""), "zeros": overwritten(bytes(300)), "missing": missing, "lagging": lagging}
EACH_WAY = pytest.mark.parametrize("way", list(WAYS))


def is_math(root: Path, family: families.Family, out: Path) -> bool:
    repo = Repo.open(root)
    export.checkout(repo, repo.refs.settled("heads/x").value, out)  # type: ignore[union-attr]
    same = all(
        (out / path.name).read_bytes() == path.read_bytes() for path in family.experts["math"].iterdir()
    )
    shutil.rmtree(out)
    return same


@EACH_WAY
def test_invariant_06_nothing_goes_while_the_newest_move_cannot_be_read(
    root: Path, family: families.Family, tmp_path: Path, way: str
) -> None:
    WAYS[way](root)
    for act in (
        lambda: gc.collect(Repo.open(root), keep_reflog_ns=0),
        lambda: ingest.add(Repo.open(root), family.experts["code"], "x"),
        lambda: Repository.open(root).delete_branch("x"),
    ):
        with pytest.raises(DamagedError, match=r"branch 'x' cannot be told: its newest move, @2"):
            act()
    report = fsck.repair(Repo.open(root))
    assert report.damage
    assert not report.damage_left
    assert is_math(root, family, tmp_path / "out")
    gc.collect(Repo.open(root), keep_reflog_ns=0)
    assert is_math(root, family, tmp_path / "out")
    assert not fsck.check(Repo.open(root), read_data=True).damage


@EACH_WAY
def test_where_two_commits_could_be_meant_somebody_has_to_say_so(
    root: Path, family: families.Family, tmp_path: Path, way: str
) -> None:
    repo = Repo.open(root)
    meant, first = repo.tip("x"), repo.refs.log("heads/x")[-1].new
    assert meant is not None
    assert first is not None
    Repository.open(root).create_branch("y", first.hex())
    ingest.add(Repo.open(root), family.experts["code"], "y")
    (root / "refs" / "heads" / "y").unlink()
    shutil.rmtree(root / "logs" / "heads" / "y")
    WAYS[way](root)
    report = fsck.repair(Repo.open(root))
    assert any("cannot be told" in one.detail for one in report.damage_left)
    with pytest.raises(DamagedError):
        gc.collect(Repo.open(root), keep_reflog_ns=0)
    Repository.open(root).create_branch("x", meant.hex(), force=True)
    assert is_math(root, family, tmp_path / "out")
    fsck.repair(Repo.open(root))
    gc.collect(Repo.open(root), keep_reflog_ns=0)
    assert is_math(root, family, tmp_path / "out")
    assert not fsck.check(Repo.open(root), read_data=True).damage
