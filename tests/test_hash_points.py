"""Files checked in parts: where a hash stood leads from the beginning to the digest, or is not believed."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import export, hash_lanes, ingest, kernels
from mpstore.errors import DamagedError
from mpstore.hash_points import HashPoints, Part
from mpstore.hashing import Hashing
from mpstore.records.config import Config
from mpstore.records.model import Commit, Manifest
from mpstore.repository import Repo

SMALL = Config(block_elements=1024, pack_bytes=1 << 18, threads=2)
NO_LANES = kernels.pick("sha256").lanes() == 1
needs_lanes = pytest.mark.skipif(
    NO_LANES, reason="hashes are not taken apart where one is as quick as it can be"
)


@pytest.fixture(params=[4096, 128 << 10], ids=["4 KiB", "128 KiB"])
def step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(hash_lanes, "POINT_BYTES", request.param)
    return int(request.param)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    tensors = {f"w{k}": rng.standard_normal(50_021).astype(np.float32) for k in range(4)}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(families.safetensors_bytes(tensors))
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(tmp_path / "repo", SMALL)


def kept(repo: Repo) -> list[Path]:
    return sorted(Path(repo.root, "cache", "sha256-points").glob("*"))


def check_out(repo: Repo, source: Path, target: Path) -> None:
    tip = repo.tip("model")
    assert tip is not None
    export.checkout(repo, tip, target)
    for file in source.iterdir():
        assert (target / file.name).read_bytes() == file.read_bytes()
    assert {file.name for file in target.iterdir()} == {file.name for file in source.iterdir()}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2000), st.integers(1, 10), st.integers(0, 40))
def test_parts_make_the_file(tmp_path_factory: Any, size: int, blocks: int, points: int) -> None:
    room = tmp_path_factory.mktemp("mp")
    (room / "tmp").mkdir()
    digest = bytes(32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_lanes, "POINT_BYTES", 64 * blocks)
        known = HashPoints(str(room))
        known.keep(digest, [bytes([k]) * 32 for k in range(points)])
        parts = known.parts(digest, size)
    assert parts[0].start == 0
    assert parts[-1].stop == size
    assert parts[0].before == parts[-1].after == b""
    for one, other in itertools.pairwise(parts):
        assert one.stop == other.start
        assert one.stop - one.start == 64 * blocks
        assert one.after == other.before != b""
    if size <= 64 * blocks or points != size // (64 * blocks):
        assert parts == [Part(0, size)]
    else:
        assert len(parts) == -(-size // (64 * blocks))


@needs_lanes
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 600_000), st.lists(st.integers(0, 600_000), max_size=6), st.integers(0, 1 << 30))
def test_a_hash_goes_on_from_each_of_its_points(size: int, cuts: list[int], seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    step = 96 << 10
    edges = [0, *sorted(cut % (size + 1) for cut in cuts), size]
    with pytest.MonkeyPatch.context() as patch, Hashing() as together:
        patch.setattr(hash_lanes, "POINT_BYTES", step)
        with together.begin(size) as own:
            for start, stop in itertools.pairwise(edges):
                own.submit(data[start:stop])
            assert own.digest() == hashlib.sha256(data).digest()
            points = [b"", *own.points]
        assert len(points) == size // step + 1
        for number, (point, after) in enumerate(itertools.zip_longest(points, points[1:])):
            start = number * step
            part = data[start : start + step]
            with together.resume(point, start, len(part)) as own:
                own.submit(part)
                assert own.digest() == hashlib.sha256(data[: start + len(part)]).digest()
                assert list(own.points) == ([] if after is None else [after])


@needs_lanes
def test_what_was_added_is_checked_in_parts(repo: Repo, checkpoint: Path, tmp_path: Path, step: int) -> None:
    ingest.add(repo, checkpoint, "model")
    weights = max(checkpoint.iterdir(), key=lambda file: file.stat().st_size)
    (points,) = kept(repo)
    assert points.name == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert points.stat().st_size == weights.stat().st_size // step * 32
    check_out(repo, checkpoint, tmp_path / "out")


@needs_lanes
@pytest.mark.usefixtures("step")
@pytest.mark.parametrize("harm", ["delete", "empty", "cut", "flip", "swap", "garbage", "directory"])
def test_points_are_not_believed_but_tried(repo: Repo, checkpoint: Path, tmp_path: Path, harm: str) -> None:
    """Whatever is wrong with them, a checkout is right, and leaves right ones."""
    ingest.add(repo, checkpoint, "model")
    (path,) = kept(repo)
    right = path.read_bytes()
    harms = {
        "empty": b"",
        "cut": right[:-1],
        "flip": right[:40] + bytes([right[40] ^ 1]) + right[41:],
        "swap": right[32:64] + right[:32] + right[64:],
        "garbage": bytes(len(right)),
    }
    path.unlink()
    if harm == "directory":
        path.mkdir()
    elif harm in harms:
        path.write_bytes(harms[harm])
    check_out(repo, checkpoint, tmp_path / "out")
    check_out(repo, checkpoint, tmp_path / "again")
    if harm != "directory":
        assert path.read_bytes() == right


@needs_lanes
@pytest.mark.usefixtures("step")
@pytest.mark.parametrize("known", [False, True])
def test_a_manifest_with_another_digest_is_damage_in_parts_too(
    repo: Repo, checkpoint: Path, tmp_path: Path, known: bool
) -> None:
    added = ingest.add(repo, checkpoint, "model")
    manifest = repo.manifest(added.committed.manifest)
    entries = tuple(
        replace(entry, sha256=bytes(31) + b"x") if entry.kind == "safetensors" else entry
        for entry in manifest.files
    )
    with repo.objects.writer("test") as writer:
        wrong = repo.put(writer, replace(manifest, files=entries))
        commit = repo.put(writer, replace(repo.commit(added.commit), manifest=wrong))
        writer.finish()
    assert isinstance(repo.commit(commit), Commit)
    assert isinstance(repo.manifest(wrong), Manifest)
    if known:
        (path,) = kept(repo)
        path.with_name((bytes(31) + b"x").hex()).write_bytes(path.read_bytes())
    with pytest.raises(DamagedError, match="SHA-256 is"):
        export.checkout(repo, commit, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_without_lanes_there_are_no_points(repo: Repo, checkpoint: Path, tmp_path: Path, step: int) -> None:
    kernels.select("numpy")
    try:
        ingest.add(repo, checkpoint, "model")
        assert kept(repo) == []
        check_out(repo, checkpoint, tmp_path / "out")
        with Hashing() as together, pytest.raises(ValueError, match="middle"):
            together.resume(bytes(32), step, 1)
    finally:
        kernels.select("auto")


@pytest.mark.usefixtures("step")
def test_a_room_that_cannot_be_made_is_no_error(repo: Repo, checkpoint: Path, tmp_path: Path) -> None:
    Path(repo.root, "cache").mkdir(exist_ok=True)
    Path(repo.root, "cache", "sha256-points").write_text("in the way")
    ingest.add(repo, checkpoint, "model")
    check_out(repo, checkpoint, tmp_path / "out")
