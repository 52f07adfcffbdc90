"""fsck --repair --from: a directory gives back what it has, whatever else is there or is missing."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpstore import fsck, ingest
from mpstore.ids import block_id
from mpstore.repository import Repo
from mpstore.store.pack import BLOCKS
from tests.families import write_checkpoint
from tests.repository_material import new_repository
from tests.store_material import ELEMENTS

WEIGHTS = "model-00002-of-00002.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint; the repository beside it, in `repo`, has lost all blocks of it."""
    tensors = {
        f"layer{i}": np.random.default_rng(i).standard_normal((8, ELEMENTS)).astype("f4") for i in range(4)
    }
    checkpoint = write_checkpoint(tmp_path / "base", tensors)
    repo = new_repository(tmp_path / "repo", 1 << 24)
    ingest.add(repo, str(checkpoint), "base")
    lose_blocks(tmp_path / "repo")
    return checkpoint


def lose_blocks(root: Path) -> None:
    repo = Repo.open(root)
    for numbered in repo.objects.packs.tables():
        for info in numbered.table.packs:
            if info.kind == BLOCKS:
                pack = Path(repo.objects.layout.packs) / f"{info.id.hex()}.pack"
                pack.unlink()
                pack.with_suffix(".idx").unlink()


def repair(source: Path) -> fsck.FsckReport:
    return fsck.repair(Repo.open(source.parent / "repo"), sources=[str(source)])


BESIDE: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "pipe called weights": lambda path: os.mkfifo(path.with_name("a.safetensors")),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a directory": lambda path: path.symlink_to("/tmp"),
    "link to the directory": lambda path: path.symlink_to("."),
    "name that is no Unicode": lambda path: Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff")).touch(),
    "no weights": lambda path: path.with_name("a.safetensors").write_bytes(b"\xff" * 100) and None,
}


@pytest.mark.parametrize("beside", BESIDE)
def test_what_lies_beside_the_weights_takes_nothing_away(source: Path, beside: str) -> None:
    BESIDE[beside](source / "a")
    report = repair(source)
    assert (report.exit_code, report.damage_left) == (0, ())
    assert report.damage


@pytest.mark.parametrize("change", [-10, 10])
def test_a_file_that_ends_early_or_late_gives_the_blocks_within_it(source: Path, change: int) -> None:
    whole = (source / WEIGHTS).read_bytes()
    os.truncate(source / WEIGHTS, len(whole) + change)
    report = repair(source)
    cut = [block_id(whole[-4 * ELEMENTS :]).hex()] if change < 0 else []
    assert [one.name for one in report.damage_left] == cut
    assert len(report.damage) > 32


@pytest.mark.parametrize("cut", [4, 100])
def test_a_file_that_ends_in_its_header_is_no_worse_for_the_others(source: Path, cut: int) -> None:
    os.truncate(source / WEIGHTS, cut)
    report = repair(source)
    assert 2 <= len(report.damage_left) < len(report.damage) / 2 + 2


def test_blocks_are_cut_as_they_were_when_they_were_added(source: Path) -> None:
    """The setting may have been changed since, or written anew with the config."""
    config = source.parent / "repo" / ".mp" / "config"
    text = config.read_text()
    assert f"block_elements = {ELEMENTS}" in text
    config.write_text(text.replace(f"block_elements = {ELEMENTS}", f"block_elements = {4 * ELEMENTS}"))
    other = write_checkpoint(source.parent / "other", {"w": np.arange(8.0 * ELEMENTS, dtype="f4")}, shards=1)
    ingest.add(Repo.open(source.parent / "repo"), str(other), "other")
    lose_blocks(source.parent / "repo")
    report = fsck.repair(Repo.open(source.parent / "repo"), sources=[str(source), str(other)])
    assert len(report.damage) > 32 + 2
    assert report.damage_left == ()


def test_a_large_file_is_read_in_pieces(source: Path) -> None:
    for name in ("a.bin", "b.safetensors"):
        (source / name).touch()
        os.truncate(source / name, 300 << 20)
    tracemalloc.start()
    try:
        report = repair(source)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert report.damage_left == ()
