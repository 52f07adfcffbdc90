"""Differences between checkpoints, against figures computed in plain numpy."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from families import write_checkpoint

from mpstore.checkpoint_dir import scan
from mpstore.diff import Diff, Directory, compare


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
