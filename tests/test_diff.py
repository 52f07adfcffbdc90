"""Differences between checkpoints, against figures computed in plain numpy."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from commit_material import commit
from families import write_checkpoint, write_family

from mpstore import ingest
from mpstore.checkpoint_dir import scan
from mpstore.diff import Diff, Directory, Side, Stored, compare
from mpstore.records.config import Config
from mpstore.records.model import Manifest
from mpstore.repository import Repo


def between(tmp_path: Path, old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> Diff:
    sides = [
        Directory(scan(write_checkpoint(tmp_path / name, tensors, shards=1)))
        for name, tensors in (("a", old), ("b", new))
    ]
    return compare(*sides)


def test_equal_checkpoints_do_not_differ(tmp_path: Path) -> None:
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 4), np.float32)}
    found = between(tmp_path, tensors, tensors)
    assert found.empty
    assert found.equal_tensors == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_figures_are_those_of_numpy(tmp_path: Path, dtype: type) -> None:
    generator = np.random.default_rng(3)
    a = generator.standard_normal((37, 11)).astype(dtype)
    b = (a.astype(np.float32) + generator.standard_normal((37, 11)) * 0.1).astype(dtype)
    (one,) = between(tmp_path, {"w": a}, {"w": b}).tensors
    wide_a, wide_b = (array.astype(np.float64).ravel() for array in (a, b))
    assert one.figures is not None
    assert one.figures.relative_l2 == pytest.approx(np.linalg.norm(wide_b - wide_a) / np.linalg.norm(wide_a))
    assert one.figures.max_abs == np.abs(wide_b - wide_a).max()
    cosine = wide_a @ wide_b / np.linalg.norm(wide_a) / np.linalg.norm(wide_b)
    assert one.figures.cosine == pytest.approx(cosine)
    assert (one.state, one.blocks, one.changed_blocks) == ("changed", 1, 1)


def test_changed_blocks_are_counted(tmp_path: Path) -> None:
    a = np.zeros(3 * 131072 + 5, np.float32)
    b = a.copy()
    b[131072] = b[-1] = 1
    (one,) = between(tmp_path, {"w": a}, {"w": b}).tensors
    assert (one.blocks, one.changed_blocks) == (4, 2)
    assert one.figures is not None
    assert one.figures.relative_l2 == np.inf
    assert one.figures.cosine is None


def test_added_removed_and_reshaped_are_told_apart(tmp_path: Path) -> None:
    old = {
        "gone": np.ones(2, np.float32),
        "bent": np.ones((2, 3), np.float32),
        "cast": np.ones(2, np.float32),
    }
    new = {
        "come": np.ones(2, np.float32),
        "bent": np.ones((3, 2), np.float32),
        "cast": np.ones(2, np.float16),
    }
    states = {one.key: one.state for one in between(tmp_path, old, new).tensors}
    assert states == {"gone": "removed", "come": "added", "bent": "reshaped", "cast": "reshaped"}


def test_nan_and_infinity_stay_out_of_the_figures(tmp_path: Path) -> None:
    a = np.array([1, 2, np.nan, np.inf], np.float32)
    b = np.array([1, 3, np.nan, -np.inf], np.float32)
    (one,) = between(tmp_path, {"w": a}, {"w": b}).tensors
    assert one.figures is not None
    assert one.figures.max_abs == 1
    assert one.figures.nonfinite == 2


def test_integers_differ_without_figures(tmp_path: Path) -> None:
    (one,) = between(tmp_path, {"w": np.array([1])}, {"w": np.array([2])}).tensors
    assert one.state == "changed"
    assert one.figures is None


def test_files_differ_by_content_but_headers_not_by_tensors(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        write_checkpoint(tmp_path / name, {"w": np.full(3, value, np.float32)}, shards=1)
        (tmp_path / name / "config.json").write_text(json.dumps({"value": value}))
    (tmp_path / "b" / "notes.md").write_text("new")
    found = compare(Directory(scan(tmp_path / "a")), Directory(scan(tmp_path / "b")))
    assert {(file.path, file.state) for file in found.files} == {
        ("config.json", "changed"),
        ("notes.md", "added"),
    }
    assert [one.key for one in found.tensors] == ["w"]


def test_patterns_choose_tensors(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        tensors = {"x.weight": np.full(3, value, np.float32), "x.bias": np.full(3, value, np.float32)}
        write_checkpoint(tmp_path / name, tensors, shards=1)
    found = compare(Directory(scan(tmp_path / "a")), Directory(scan(tmp_path / "b")), patterns=("*.bias",))
    assert [one.key for one in found.tensors] == ["x.bias"]
    assert found.files == ()


def stored(repo: Repo, branch: str, tensors: dict[str, np.ndarray]) -> Stored:
    manifest = repo.commit(commit(repo, branch, tensors)).manifest
    return Stored(repo, repo.manifest(manifest), manifest)


def all_figures(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    wide_a, wide_b = (array.astype(np.float64).ravel() for array in (a, b))
    norms = np.linalg.norm(wide_a), np.linalg.norm(wide_b)
    relative = np.linalg.norm(wide_b - wide_a) / norms[0]
    return relative, np.abs(wide_b - wide_a).max(), wide_a @ wide_b / norms[0] / norms[1]


@pytest.mark.parametrize("sizes", [(64, 64), (64, 128), (192, 128)])
def test_revisions_of_any_partition_compare_like_arrays(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """Two stores of other block sizes, and directories, in every pairing."""
    generator = np.random.default_rng(5)
    a = generator.standard_normal(1500).astype(ml_dtypes.bfloat16)
    b = a.copy()
    b[70:75] += 1
    b[1499] = 3
    sides: list[list[Side]] = []
    for number, tensor in enumerate((a, b)):
        repo = Repo.init(tmp_path / str(number), Config(block_elements=sizes[number], pack_bytes=4096))
        directory = write_checkpoint(tmp_path / f"dir{number}", {"w": tensor}, shards=1)
        sides.append([stored(repo, "main", {"w": tensor}), Directory(scan(directory))])
    for old in sides[0]:
        for new in sides[1]:
            (one,) = compare(old, new).tensors
            assert one.figures is not None
            found = one.figures.relative_l2, one.figures.max_abs, one.figures.cosine
            assert found == pytest.approx(all_figures(a, b), rel=1e-12)
            assert 1 <= one.changed_blocks <= 3
        for same in sides[0]:
            assert compare(old, same, patterns=("w",)).empty


def test_only_changed_blocks_of_the_new_side_are_read(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path, Config(block_elements=64, pack_bytes=1 << 20))
    a = np.random.default_rng(1).standard_normal((4, 1600)).astype(np.float32)
    b = a.copy()
    b[2, 64] += 1
    same = {"same": np.arange(100.0)}
    old, new = stored(repo, "a", {"w": a, **same}), stored(repo, "b", {"w": b, **same})
    reads: list[int] = []
    original = Repo.read_blocks
    rows_read: list[object] = []

    class Watched(Repo):
        def read_blocks(self, record, rows=None, purpose="other"):
            rows_read.extend(rows)
            reads.append(len(rows))
            return original(self, record, rows, purpose)

    watched = Watched(repo.root, repo.config, repo.progress)
    sides = [Stored(watched, side._manifest, side.manifest_id) for side in (old, new)]
    (one,) = compare(*sides).tensors
    assert (one.key, one.blocks, one.changed_blocks) == ("w", 100, 1)
    assert len(rows_read) == 100 + 1  # the old side whole, for its norm; the new side where it differs
    assert max(reads) <= 32  # so little is held at a time
    assert one.figures is not None
    assert one.figures.max_abs == np.abs(b.astype(np.float64) - a).max()


def test_what_was_never_fetched_is_not_called_removed(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path, Config(block_elements=64))
    whole = stored(repo, "a", {"w": np.ones(3, np.float32), "v": np.ones(3, np.float32)})
    manifest = whole._manifest
    partial = Stored(repo, Manifest(manifest.files, {**manifest.tensors, "v": b""}), b"\1" * 32)
    for found in (compare(whole, partial), compare(partial, whole)):
        assert found.tensors == ()
        assert found.lacking == ("v",)
        assert found.equal_tensors == 1
    assert compare(whole, partial, patterns=("w",)).lacking == ()


def test_statistics_answer_as_reading_does(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "home", Config(block_elements=1024))
    family = write_family(tmp_path, experts=("math",))
    sides = []
    for branch, path, base in (("base", family.base, ""), ("math", family.experts["math"], "base")):
        ingest.add(repo, path, branch, base=repo.tip(base) if base else None)
        tip = repo.tip(branch)
        assert tip is not None
        manifest = repo.commit(tip).manifest
        sides.append(Stored(repo, repo.manifest(manifest), manifest))
    old, new = sides
    before = repo.objects.meter.read_bytes("other")
    known = compare(old, new, statistics=lambda: repo.statistics(old.manifest_id, new.manifest_id))
    assert repo.objects.meter.read_bytes("other") - before < 5000  # headers of the files, no weights
    measured = compare(old, new)
    assert [one.key for one in known.tensors] == [one.key for one in measured.tensors]
    assert len(known.tensors) > 10
    for one, other in zip(known.tensors, measured.tensors, strict=True):
        assert one.figures is not None
        assert other.figures is not None
        assert one.changed_blocks == other.changed_blocks
        assert one.figures.relative_l2 == pytest.approx(other.figures.relative_l2, rel=1e-5)
        assert one.figures.max_abs == pytest.approx(other.figures.max_abs, rel=1e-6)
        assert one.figures.cosine == pytest.approx(other.figures.cosine, rel=1e-6)
