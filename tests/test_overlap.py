"""Experts compared with each other: in one pass, kept with one of the two, never more than is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import families
import ml_dtypes
import numpy as np
import pytest

from mpstore import Repository, overlap, statistics
from mpstore.analyze import analyze
from mpstore.errors import DamagedError, IncompatibleError
from mpstore.ids import ObjectId
from mpstore.records.model import Columns
from mpstore.repository import Repo
from mpstore.statistics import apart as apart_module
from mpstore.statistics.distances import Distances, from_record, to_record
from mpstore.store import Frame, ObjectStore

BF16 = ml_dtypes.bfloat16


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A base and three experts; `odd` lacks a tensor, has another dtype and a NaN."""
    made = Repository.init(tmp_path / "store", block_elements=512)
    base = {key: value.astype(BF16) for key, value in families.base_tensors().items()}
    made.add(families.write_checkpoint(tmp_path / "base", base), "base")
    for seed, name in enumerate(("math", "code", "odd")):
        moved = families.fine_tuned({k: v.astype(np.float32) for k, v in base.items()}, seed)
        tensors = {key: value.astype(BF16) for key, value in moved.items()}
        if name == "odd":
            del tensors["lm_head.weight"]
            key = "model.layers.0.self_attn.q_proj.weight"
            tensors[key] = np.where(
                np.arange(moved[key].size).reshape(moved[key].shape) == 3, np.nan, moved[key]
            )
            tensors[key] = tensors[key].astype(np.float32)
        made.add(families.write_checkpoint(tmp_path / name, tensors), name, base="base")
    return made


def forget(repo: Repo) -> None:
    for name in repo.refs.names("stats/"):
        one, other = name.removeprefix("stats/").split("-")
        ref = repo.refs.read(name)
        if one == other and ref is not None:
            repo.refs.move(name, ref.value, None, "test", "")


def between(repo: Repo, one: ObjectId, other: ObjectId) -> np.ndarray | None:
    """|x - y|^2 by block of the first's float tensors, whoever of the two keeps it."""
    for first, second in ((one, other), (other, one)):
        known = repo.distances(first)
        if known is not None and known.to(second) is not None:
            return known.to(second)
    return None


def test_distances_are_those_that_statistics_of_the_pair_have(repository: Repository) -> None:
    repo = Repo.open(repository.mp_dir)
    commits = {name: repo.tip(name) for name in ("math", "code", "odd")}
    manifests = {name: repo.commit(one).manifest for name, one in commits.items()}
    assert between(repo, manifests["math"], manifests["code"]) is not None, "add has compared them"
    forget(repo)
    assert between(repo, manifests["math"], manifests["code"]) is None
    assert overlap.measure(repo, list(commits.values())) == 3
    assert overlap.measure(repo, list(commits.values())) == 0
    assert overlap.measure(repo, list(commits.values()), force=True) == 3
    for one, other in (("math", "code"), ("math", "odd"), ("code", "odd")):
        seen = analyze(repo, commits[one], commits[other])
        holder, told = next(
            (known, manifests[y])
            for x, y in ((one, other), (other, one))
            if (known := repo.distances(manifests[x])) is not None and manifests[y] in known.others
        )
        column = holder.to(told)
        for key in seen.keys:
            rows, own = seen.rows(key), holder.rows(key)
            if own.stop > own.start:
                expected = np.where(seen.nonfinite[rows] > 0, np.nan, seen.delta_sq[rows])
                np.testing.assert_array_equal(column[own], expected)
        lacking = set(holder.keys) - set(seen.keys)
        assert all(np.isnan(column[holder.rows(key)]).all() for key in lacking)


def test_add_compares_no_more_than_takes_no_time(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repo.open(repository.mp_dir)
    tips = [repo.tip(name) for name in ("math", "code", "odd")]
    manifests = [repo.commit(one).manifest for one in tips]
    raw = sum(entry.size for entry in repo.manifest(manifests[0]).files if entry.kind == "safetensors")
    for allowed, wanted in ((2 * raw - 1, 0), (2 * raw + 1, 1), (5 * raw, 2)):
        forget(repo)
        monkeypatch.setattr(overlap, "ALONG_BYTES", allowed)
        assert overlap.along(repo, {tips[0]: [tips[0], *tips[1:]]}) == wanted
        assert (between(repo, manifests[0], manifests[1]) is not None) == (wanted > 0)
    assert overlap.along(repo, {tips[0]: tips[1:]}) == 0, "known already"


def test_of_several_that_come_together_each_block_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pairs as one by one, each of them once, in one pass."""
    family = families.write_family(tmp_path / "family", experts=["math", "code", "prose", "chat"])
    named = [(family.base, "base"), *((path, name) for name, path in family.experts.items())]
    decoded: Counter[bytes] = Counter()
    pairs: list[list[overlap.Pair]] = []
    measure, frames = overlap._measure, apart_module._frames

    def counting(store: ObjectStore, wanted: Iterable[bytes], purpose: str) -> list[Frame]:
        found = frames(store, wanted, purpose)
        decoded.update(frame.id for frame in found if purpose == "other")
        return found

    def noting(repo: Repo, commits: object, own: list[overlap.Pair], *rest: object) -> int:
        pairs.append(own)
        return measure(repo, commits, own, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(apart_module, "_frames", counting)
    monkeypatch.setattr(overlap, "_measure", noting)
    together = Repository.init(tmp_path / "together")
    together.add_all(named, base="base")
    assert set(decoded.values()) == {1}
    once = [own for own in pairs if own]
    assert [len(own) for own in once] == [6]
    pairs.clear()
    alone = Repository.init(tmp_path / "alone")
    for path, name in named:
        alone.add(path, name, base=None if name == "base" else "base")
    assert sorted(pair for own in pairs for pair in own) == sorted(once[0])
    own, other = (Repo.open(one.mp_dir) for one in (together, alone))
    for one, two in once[0]:
        assert np.array_equal(between(own, one, two), between(other, one, two))


def test_what_is_found_later_is_kept_beside_what_was_known(repository: Repository) -> None:
    repo = Repo.open(repository.mp_dir)
    tips = [repo.tip(name) for name in ("math", "code", "odd")]
    manifests = [repo.commit(one).manifest for one in tips]
    forget(repo)
    assert overlap.along(repo, {tips[0]: [tips[1]]}) == 1
    assert overlap.along(repo, {tips[0]: [tips[2]]}) == 1
    assert set(repo.distances(manifests[0]).others) == set(manifests[1:])
    repository.gc()
    assert set(Repo.open(repository.mp_dir).distances(manifests[0]).others) == set(manifests[1:])


def test_adapters_are_not_compared(repository: Repository, tmp_path: Path) -> None:
    repo = Repo.open(repository.mp_dir)
    tensors = {"model.norm.weight": np.zeros(families.HIDDEN, BF16)}
    delta = repository.add(
        families.write_checkpoint(tmp_path / "delta", tensors), "delta", base="base", kind="delta"
    )
    assert overlap.along(repo, {delta.commit: [repo.tip("math")]}) == 0
    with pytest.raises(IncompatibleError, match="delta checkpoint"):
        overlap.measure(repo, [delta.commit, repo.tip("math")])


def test_records_come_back_and_lies_are_damaged() -> None:
    ids = [bytes([i]) * 32 for i in range(3)]
    known = Distances(ids[0], (ids[1], ids[2]), ("a", "b"), np.array([0, 2, 3]), np.arange(6.0).reshape(2, 3))
    record = to_record(known)
    again = from_record(record)
    assert (again.manifest, again.others, again.keys) == (known.manifest, known.others, known.keys)
    np.testing.assert_array_equal(again.apart, known.apart)
    assert again.rows("b") == slice(2, 3)
    assert again.rows("c") == slice(0, 0)
    assert again.to(ids[0]) is None
    assert statistics.distances_ref(ids[0]).count("00" * 8) == 2
    for change in (
        {"manifest": "zz"},
        {"others": "00"},
        {"keys": "b\na"},
        {"keys": 3},
        {"others": "ff" * 64},
    ):
        with pytest.raises(DamagedError):
            from_record(Columns(record.purpose, {**record.meta, **change}, record.arrays))
    kind, shape, data = record.arrays["apart"]
    for lie in ((kind, shape, data[:-1]), (kind, (shape[0] + 1,), data), ("<f4", shape, data)):
        with pytest.raises(DamagedError):
            from_record(Columns(record.purpose, record.meta, {**record.arrays, "apart": lie}))
    with pytest.raises(DamagedError):
        from_record(Columns("statistics", record.meta, record.arrays))
