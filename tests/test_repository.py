"""A repository: made once, found from below, typed loaders, tensors as arrays, commits before refs."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from commit_material import commit, put_tensor

from mpstore import files
from mpstore.errors import ConflictError, DamagedError, NotFoundError, StorageError, UsageError
from mpstore.records.config import Config
from mpstore.records.encoding import encode
from mpstore.records.model import Columns, Commit, Manifest, TensorRecord
from mpstore.repository import Repo
from mpstore.store.frame import record_form

SMALL = Config(block_elements=64, pack_bytes=4096)
RANDOM = np.random.default_rng(7)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(tmp_path / "home", SMALL)


def arrays() -> dict[str, np.ndarray]:
    values = RANDOM.standard_normal((37, 11)).astype(np.float32)
    return {
        "bf16": values.astype(ml_dtypes.bfloat16),
        "f32": values,
        "f64": values.astype(np.float64)[:3],
        "fp8": values.astype(ml_dtypes.float8_e4m3fn),
        "i64": np.arange(131),
        "flag": np.array([True, False]),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "zeros": np.zeros(640, np.float32),
    }


def test_init_makes_a_repository_once(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "new" / "home", SMALL)
    assert repo.root == str(tmp_path / "new" / "home" / ".mp")
    assert repo.config == SMALL
    assert repo.refs.names() == []
    with pytest.raises(UsageError, match="exists already"):
        Repo.init(tmp_path / "new" / "home")
    assert Repo.open(tmp_path / "new" / "home").config == SMALL
    assert Repo.open(repo.root).config == SMALL


def test_an_init_cut_anywhere_can_be_done_again(tmp_path: Path) -> None:
    for step in range(1, 200):
        count = 0

        def observer(operation: files.Operation, step: int = step) -> None:
            nonlocal count
            count += 1
            if count >= step:
                raise OSError(28, f"No space left on device for {operation.kind}")

        files.set_observer(observer)
        try:
            Repo.init(tmp_path / str(step), SMALL)
        except StorageError:
            pass
        finally:
            files.set_observer(None)
        if count < step:
            assert step > 10
            return
        if not os.path.exists(tmp_path / str(step) / ".mp" / "config"):
            Repo.init(tmp_path / str(step), SMALL)
        again = Repo.open(tmp_path / str(step))
        if step % 8 == 0:
            commit(again, "main", {"w": np.ones(3, np.float32)})
    raise AssertionError("never ran to its end")


def test_a_repository_is_found_from_below(tmp_path: Path, repo: Repo) -> None:
    below = tmp_path / "home" / "a" / "b"
    below.mkdir(parents=True)
    assert Repo.discover(below).root == repo.root
    for nowhere in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotFoundError, match="no repository") as caught:
            Repo.discover(nowhere)
        assert "mp init" in (caught.value.hint or "")
        with pytest.raises(NotFoundError):
            Repo.open(nowhere)


def test_a_damaged_config_is_said_on_opening(tmp_path: Path, repo: Repo) -> None:
    os.unlink(os.path.join(repo.root, "config"))
    with pytest.raises(DamagedError, match="config is missing") as caught:
        Repo.discover(tmp_path / "home")
    assert "format = 1" in (caught.value.hint or "")
    commit(repo, "main", {"w": np.ones(3, np.float32)})
    with pytest.raises(
        UsageError, match="exists already"
    ):  # `mp init` over a repository that lost its config
        Repo.init(tmp_path / "home")


def test_tensors_come_back_as_arrays(repo: Repo) -> None:
    wanted = arrays()
    commit_id = commit(repo, "main", wanted)
    again = Repo.open(os.path.dirname(repo.root))
    manifest = again.manifest(again.commit(commit_id).manifest)
    assert sorted(manifest.tensors) == sorted(wanted)
    for key, array in wanted.items():
        found = again.read_tensor(manifest, key)
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tobytes() == array.tobytes()
    records = again.tensors(manifest)
    assert records["bf16"].blocks == 7
    assert records["empty"].blocks == 0
    assert records == {key: again.find_tensor(manifest, key) for key in manifest.tensors}
    with pytest.raises(NotFoundError, match="no tensor 'bf17'") as caught:
        again.read_tensor(manifest, "bf17")
    assert "bf16" in (caught.value.hint or "")


def test_blocks_can_be_read_alone(repo: Repo) -> None:
    array = np.arange(640, dtype=np.float32)
    commit_id = commit(repo, "main", {"w": array})
    record = repo.tensors(repo.manifest(repo.commit(commit_id).manifest))["w"]
    before = repo.objects.meter.read_bytes("expert")
    found = dict(repo.read_blocks(record, [7, 2], "expert"))
    assert sorted(found) == [2, 7]
    assert found[7].tobytes() == array[448:512].tobytes()
    places = repo.objects.locate(record.block_ids)
    assert repo.objects.meter.read_bytes("expert") - before == int(places.frame_bytes[[2, 7]].sum())


def test_partial_manifests_say_what_is_lacking(repo: Repo) -> None:
    manifest = Manifest((), {"here": b"", "there": b""})
    assert repo.tensors(manifest) == {}
    with pytest.raises(NotFoundError, match="never fetched") as caught:
        repo.read_tensor(manifest, "here")
    assert "mp pull" in (caught.value.hint or "")


def test_loaders_check_the_kind(repo: Repo) -> None:
    commit_id = commit(repo, "main", {"w": np.ones(3, np.float32)})
    assert repo.commit(commit_id).message == ""
    with pytest.raises(NotFoundError, match="is not a manifest"):
        repo.manifest(commit_id)
    with pytest.raises(DamagedError, match="in no pack"):
        repo.commit(b"\1" * 32)
    for record_id in repo.objects.with_prefix("0") + repo.objects.with_prefix("f"):
        for cls in (Commit, Manifest, TensorRecord, Columns):
            try:
                assert isinstance(repo.load(cls, record_id), cls)
            except NotFoundError:
                continue


def test_invariant_04_a_record_of_the_wrong_length_is_damage(repo: Repo) -> None:
    """Blocks that exist, but are not what the tensor's shape says."""
    with repo.objects.writer("test") as writer:
        other = repo.tensor  # keep the loader's type checked
        first = put_tensor(repo, writer, np.ones(64, np.float32))
        second = put_tensor(repo, writer, np.ones(32, np.float32))
        writer.finish()
    one, two = other(first), other(second)
    with pytest.raises(DamagedError, match="expected"):
        list(repo.read_blocks(TensorRecord("F32", (64,), 64, two.block_ids)))
    with pytest.raises(DamagedError, match="unknown dtype"):
        list(repo.read_blocks(TensorRecord("F7", (64,), 64, one.block_ids)))


def test_invariant_02_a_branch_that_moved_is_a_conflict(repo: Repo) -> None:
    first = commit(repo, "main", {"w": np.ones(3, np.float32)})
    with repo.objects.writer("test") as writer, pytest.raises(ConflictError):
        repo.advance(writer, "main", None, manifest=repo.commit(first).manifest)
    assert repo.tip("main") == first
    second = commit(repo, "main", {"w": np.zeros(3, np.float32)}, message="two\nlines")
    record = repo.commit(second)
    assert [(parent.role, parent.commit) for parent in record.parents] == [("previous", first)]
    assert repo.refs.log("heads/main")[0].why == "add: two"
    assert repo.tip("other") is None
    with pytest.raises(UsageError, match="not allowed"):
        repo.tip("a..b")


def test_invariant_01_a_commit_is_durable_before_its_branch_names_it(repo: Repo) -> None:
    operations: list[files.Operation] = []
    files.set_observer(operations.append)
    try:
        commit(repo, "main", {"w": np.ones(300, np.float32)})
    finally:
        files.set_observer(None)
    names = [operation.target or operation.path for operation in operations]
    moved = next(i for i, name in enumerate(names) if "/logs/heads/main/@1" in name)
    packs = [i for i, name in enumerate(names) if name.endswith((".pack", ".idx"))]
    assert packs
    assert max(packs) < moved
    synced = [
        i
        for i, operation in enumerate(operations)
        if operation.kind == "fsync_dir" and "packs" in operation.path
    ]
    assert max(packs) < max(i for i in synced if i < moved)


def test_another_process_commits_are_seen(repo: Repo) -> None:
    commit(repo, "main", {"w": np.ones(300, np.float32)})
    other = Repo.open(os.path.dirname(repo.root))
    second = commit(other, "main", {"w": np.zeros(300, np.float32), "v": np.ones(3, np.float32)})
    manifest = repo.manifest(repo.commit(second).manifest)
    assert len(repo.tensors(manifest)) == 2
    assert repo.read_tensor(manifest, "w").sum() == 0


def test_statistics_are_found_by_their_pair(repo: Repo) -> None:
    one, two = b"\1" * 32, b"\2" * 32
    assert repo.statistics(one, two) is None
    with repo.objects.writer("test") as writer:
        wrong = repo.put(writer, Columns("other", {}, {}))
        writer.finish()
    repo.name_statistics(one, two, wrong)
    repo.name_statistics(one, two, wrong)
    assert repo.statistics(one, two) is None  # damaged: a warning, not an end
    assert len(repo.refs.log(repo.refs.names("stats/")[0])) == 1


def test_of_many_records_one_that_is_damaged_is_read_from_another_copy(repo: Repo) -> None:
    records = [TensorRecord("F32", (k, 2), 64, bytes(range(k, k + 32))) for k in range(1, 9)]
    with repo.objects.writer("test") as writer:
        ids = repo.put_many(writer, records)
        writer.finish()
    with repo.objects.writer("again") as writer:
        for own_id, record in reversed(list(zip(ids, records, strict=True))):
            writer.store_anew(own_id, encode(record), record_form("tensor"))
        writer.finish()
    packs = sorted(Path(repo.objects.layout.packs).glob("*.pack"))
    assert len(packs) == 2
    for pack in packs:
        whole = pack.read_bytes()
        pack.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert Repo.open(repo.root).load_many(TensorRecord, ids) == dict(zip(ids, records, strict=True))
        pack.write_bytes(whole)
    for pack in packs:
        first = encode(records[0])
        assert pack.read_bytes().count(first) == 1
        pack.write_bytes(pack.read_bytes().replace(first, first[:-1] + b"?"))
    with pytest.raises(DamagedError, match=r"pack \w+\.pack, offset \d+"):
        Repo.open(repo.root).load_many(TensorRecord, ids)
