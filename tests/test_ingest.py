"""Adding checkpoints: what comes out is what went in, and nothing is read, stored or named needlessly."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import families
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import export, files, ingest
from mpstore.analyze import analyze
from mpstore.errors import ConflictError, DamagedError, IncompatibleError, StorageError, UsageError
from mpstore.records.config import Config
from mpstore.records.model import Manifest, Parent
from mpstore.repository import Repo
from mpstore.statistics import observe
from mpstore.store.pack import BLOCKS, PackFile
from mpstore.store.scanning import scan
from tests.faults import Fault, striking

BLOCK = 1024
SMALL = Config(block_elements=BLOCK, pack_bytes=1 << 16, threads=2)
TINY = Config(block_elements=64, pack_bytes=1 << 14, threads=2)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(tmp_path / "repo", SMALL)


@pytest.fixture
def family(tmp_path: Path) -> families.Family:
    return families.write_family(tmp_path / "family")


def manifest_of(repo: Repo, branch: str) -> Manifest:
    tip = repo.tip(branch)
    assert tip is not None
    return repo.manifest(repo.commit(tip).manifest)


def content(repo: Repo, branch: str) -> dict[str, bytes]:
    manifest = manifest_of(repo, branch)
    return {
        entry.path: b"".join(map(bytes, export.file_content(repo, manifest, entry).stream()))
        for entry in manifest.files
    }


def on_disk(directory: Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def test_a_family_is_stored_byte_for_byte_with_its_lineage(repo: Repo, family: families.Family) -> None:
    added = ingest.add(repo, family.base, "base", message="first", author="me")
    assert content(repo, "base") == on_disk(family.base)
    for name, directory in family.experts.items():
        result = ingest.add(repo, directory, name, base=added.commit, base_name="base")
        assert content(repo, name) == on_disk(directory)
        assert result.base == "base"
    commit = repo.commit(repo.tip("math") or b"")
    assert [(parent.role, parent.commit) for parent in commit.parents] == [("base", added.commit)]
    assert commit.how == {"verb": "add", "base": added.commit.hex()}
    for entry in manifest_of(repo, "math").files:
        assert entry.sha256 == hashlib.sha256((family.experts["math"] / entry.path).read_bytes()).digest()
    first = repo.commit(added.commit)
    assert (first.message, first.author, first.how, first.parents) == ("first", "me", {"verb": "add"}, ())


def test_result_has_the_keys_of_the_contract(repo: Repo, family: families.Family) -> None:
    result = ingest.add(repo, family.base, "base").as_json()
    assert list(result) == [
        *("branch", "commit", "manifest", "tensors", "blocks", "new_blocks"),
        *("raw_bytes", "stored_bytes", "base", "seconds"),
    ]
    tensors = families.base_tensors()
    assert result["tensors"] == len(tensors)
    assert result["blocks"] == sum(-(-array.size // BLOCK) for array in tensors.values())
    assert result["raw_bytes"] == sum(len(data) for data in on_disk(family.base).values())
    packs = list((Path(repo.root) / "objects" / "packs").glob("*.pack"))
    assert result["stored_bytes"] == sum(path.stat().st_size for path in packs)
    assert result["base"] is None


def test_an_experts_blocks_lean_on_the_bases(tmp_path: Path, family: families.Family) -> None:
    larger = Config(block_elements=4096, threads=2)
    repo, alone = (Repo.init(tmp_path / name, larger) for name in ("larger", "alone"))
    base = ingest.add(repo, family.base, "base").as_json()
    expert = ingest.add(repo, family.experts["math"], "math").as_json()
    assert expert["base"] == "base"
    assert expert["stored_bytes"] < 0.8 * base["stored_bytes"]
    ours, theirs = manifest_of(repo, "math").tensors, manifest_of(repo, "base").tensors
    for key in (key for key in ours if key.startswith("model.layers.0.self_attn")):
        assert ours[key] == theirs[key]
    lonely = ingest.add(alone, family.experts["math"], "math").as_json()
    assert lonely["base"] is None
    assert lonely["stored_bytes"] > 1.2 * expert["stored_bytes"]


def test_statistics_are_what_the_data_say(repo: Repo, family: families.Family) -> None:
    base = ingest.add(repo, family.base, "base").commit
    ingest.add(repo, family.experts["math"], "math", base=base)
    pair = repo.statistics(repo.commit(base).manifest, repo.commit(repo.tip("math") or b"").manifest)
    assert pair is not None
    assert pair.keys == tuple(sorted(families.base_tensors()))
    bases, experts = families.read_checkpoint(family.base), families.read_checkpoint(family.experts["math"])
    for key in pair.keys:
        a, b = (part[key].astype(np.float32).ravel() for part in (bases, experts))
        rows = pair.rows(key)
        for index, row in enumerate(range(rows.start, rows.stop)):
            wanted = observe(*(x[index * BLOCK : (index + 1) * BLOCK] for x in (a, b)))
            assert pair.delta_sq[row] == wanted.seen.delta_sq
            assert pair.equal[row] == wanted.equal
            assert np.array_equal(pair.sketch[row], wanted.seen.sketch)
        if a.size > BLOCK:
            assert pair.histograms[key].elements == a.size
    assert pair.equal.any()
    assert not pair.equal.all()


def test_analyze_finds_what_ingest_found(repo: Repo, family: families.Family) -> None:
    base = ingest.add(repo, family.base, "base").commit
    expert = ingest.add(repo, family.experts["math"], "math", base=base).commit
    names = (repo.commit(base).manifest, repo.commit(expert).manifest)
    before = repo.refs.read(f"stats/{names[0].hex()[:16]}-{names[1].hex()[:16]}")
    assert before is not None
    analyze(repo, base, expert, force=True)
    after = repo.refs.read(before.name)
    assert after is not None
    assert after.value == before.value  # the very same record
    other = ingest.add(repo, family.experts["code"], "code", base=base).commit
    assert repo.statistics(names[1], repo.commit(other).manifest) is None
    assert analyze(repo, expert, other).keys == analyze(repo, expert, other).keys
    assert repo.statistics(names[1], repo.commit(other).manifest) is not None


def test_a_delta_checkpoint_is_measured_as_it_is(repo: Repo, family: families.Family, tmp_path: Path) -> None:
    base = ingest.add(repo, family.base, "base").commit
    bases, experts = families.read_checkpoint(family.base), families.read_checkpoint(family.experts["math"])
    deltas = {key: (experts[key].astype(np.float32) - bases[key].astype(np.float32)) for key in bases}
    directory = families.write_checkpoint(tmp_path / "delta", deltas)
    expert = ingest.add(repo, directory, "delta", base=base, kind="delta").commit
    assert repo.commit(expert).kind == "delta"
    pair = repo.statistics(repo.commit(base).manifest, repo.commit(expert).manifest)
    assert pair is not None
    assert pair.expert_kind == "delta"
    key = "lm_head.weight"
    squares = float(np.sum(deltas[key].astype(np.float64) ** 2))
    assert pair.delta_sq[pair.rows(key)].sum() == pytest.approx(squares, rel=1e-12)


def test_a_lora_adapter_has_its_kind_and_no_statistics(
    repo: Repo, family: families.Family, tmp_path: Path
) -> None:
    base = ingest.add(repo, family.base, "base").commit
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    weights = {"base_model.model.x.lora_A.weight": np.ones((4, 64), np.float32)}
    (adapter / "adapter_model.safetensors").write_bytes(families.safetensors_bytes(weights))
    commit = ingest.add(repo, adapter, "tuned", base=base).commit
    assert repo.commit(commit).kind == "lora"
    assert [parent.role for parent in repo.commit(commit).parents] == ["base"]
    with pytest.raises(IncompatibleError, match="LoRA adapter"):
        analyze(repo, base, commit)
    with pytest.raises(UsageError, match=r"no adapter_config\.json"):
        ingest.add(repo, family.base, "wrong", kind="lora")


def odd_tensors() -> dict[str, np.ndarray]:
    """NaN payloads, infinities, denormals, empty, zero-dimensional, prime-sized, integers, every width."""
    rng = np.random.default_rng(9)
    patterns = np.array([0x7FC1, 0xFFA5, 0x7F80, 0xFF80, 0x8000, 0x0001, 0x7F81], np.uint16)
    return {
        "nan_payloads": np.tile(patterns, 31).view(ml_dtypes.bfloat16),
        "float32_bits": rng.integers(0, 2**32, 1009, dtype=np.uint32).view(np.float32),
        "float16_bits": rng.integers(0, 2**16, 127, dtype=np.uint16).view(np.float16),
        "float64_bits": rng.integers(0, 2**64, 61, dtype=np.uint64).view(np.float64),
        "empty": np.zeros((0, 5), np.float32),
        "empty_too": np.zeros((3, 0), ml_dtypes.bfloat16),
        "scalar": np.array(3.5, np.float32),
        "prime": rng.standard_normal(131).astype(ml_dtypes.bfloat16),
        "constant": np.full(1000, 2.0, np.float32),
        "whole": rng.integers(-(2**62), 2**62, 77),
        "flags": rng.integers(0, 2, 65).astype(np.bool_),
        "fp8": rng.integers(0, 256, 300, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn),
    }


def test_odd_tensors_are_kept_bit_for_bit(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "tiny", TINY)
    tensors = odd_tensors()
    base = families.write_checkpoint(tmp_path / "odd", tensors, shards=3)
    (base / "empty.txt").write_bytes(b"")
    (base / "big.bin").write_bytes(bytes(range(256)) * 2100)
    ingest.add(repo, base, "odd")
    assert content(repo, "odd") == on_disk(base)
    moved = {key: array.copy() for key, array in tensors.items()}
    for array in moved.values():
        raw = array.reshape(-1).view(np.uint8)
        raw[: min(raw.size, 5)] ^= 1
    other = families.write_checkpoint(tmp_path / "other", moved, shards=2)
    result = ingest.add(repo, other, "other", base=repo.tip("odd"))
    assert content(repo, "other") == on_disk(other)
    pair = repo.statistics(manifest_of_id(repo, "odd"), manifest_of_id(repo, "other"))
    assert pair is not None
    assert set(pair.keys) == set(tensors)
    assert pair.nonfinite.sum() > 0
    assert np.isfinite(pair.delta_sq).all()
    assert result.committed.tensors == len(tensors)


def manifest_of_id(repo: Repo, branch: str) -> bytes:
    return repo.commit(repo.tip(branch) or b"").manifest


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_any_checkpoint_comes_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("any")
    kinds = st.sampled_from(["BF16", "F32", "F16", "I64", "F8_E4M3", "BOOL"])
    shapes = st.lists(st.integers(0, 17), max_size=3)
    names = data.draw(st.lists(st.text("abc/. é", min_size=1, max_size=6), unique=True, max_size=5))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    tensors = {}
    for name in names:
        dtype, shape = families.DTYPES[data.draw(kinds)], data.draw(shapes)
        size = int(np.prod(shape)) * dtype.itemsize
        tensors[name] = rng.integers(0, 2, size, dtype=np.uint8).view(dtype).reshape(shape)
    single = root / "model.safetensors"
    single.write_bytes(families.safetensors_bytes(tensors))
    repo = Repo.init(root / "repo", TINY)
    ingest.add(repo, single, "one")
    assert content(repo, "one") == {"model.safetensors": single.read_bytes()}
    for name, array in tensors.items():
        assert repo.read_tensor(manifest_of(repo, "one"), name).tobytes() == array.tobytes()


def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ingest reads the content of, as it opens it."""
    seen: list[str] = []
    original = ingest.add.__globals__["OpenedFile"].__init__

    def spy(self: Any, file: Any) -> None:
        seen.append(file.path)
        original(self, file)

    monkeypatch.setattr(ingest.add.__globals__["OpenedFile"], "__init__", spy)
    return seen


def age(directory: Path, seconds: int) -> None:
    """Make the files older than their clock's tick; ctime cannot be set, so let a tick pass as well."""
    for path in directory.iterdir():
        moment = path.stat().st_mtime_ns - seconds * 10**9 + 1
        os.utime(path, ns=(moment, moment))
    threading.Event().wait(0.12)


def test_an_unchanged_checkpoint_is_not_read_again(
    repo: Repo, family: families.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(family.base, 10)
    first = ingest.add(repo, family.base, "base")
    seen = opened_files(monkeypatch)
    again = ingest.add(repo, family.base, "base")
    assert seen == []
    assert again.commit == first.commit
    assert not again.committed.created
    assert again.as_json()["new_blocks"] == 0
    assert len(repo.refs.log("heads/base")) == 1
    elsewhere = ingest.add(repo, family.base, "twin")
    assert elsewhere.committed.created
    assert seen == []
    assert content(repo, "twin") == on_disk(family.base)


@pytest.mark.parametrize("lost", ["blocks", "bases", "records"])
@pytest.mark.parametrize("index", [True, False], ids=["with its index", "alone"])
@pytest.mark.parametrize("branch", ["math", "again"])
def test_invariant_06_what_the_store_has_lost_is_read_again(
    repo: Repo, family: families.Family, lost: str, index: bool, branch: str
) -> None:
    """That a directory has not changed since it was added says nothing of what the store still has."""
    packs = Path(repo.root, "objects", "packs")
    age(family.base, 10)
    age(family.experts["math"], 10)
    base = ingest.add(repo, family.base, "base").commit
    bases = set(packs.glob("*.pack"))
    ingest.add(repo, family.experts["math"], "math", base=base)
    wanted = bases if lost == "bases" else set(packs.glob("*.pack")) - bases
    for pack in wanted:
        if lost == "records" or scan(PackFile(str(pack))).kind == BLOCKS:
            pack.unlink()
            if index:
                pack.with_suffix(".idx").unlink()
    repo = Repo.open(repo.root)
    if lost == "records" and branch == "math":  # its tip's commit record is gone: that is damage
        with pytest.raises(DamagedError):
            ingest.add(repo, family.experts["math"], branch)
        return
    ingest.add(repo, family.experts["math"], branch)
    assert content(Repo.open(repo.root), branch) == on_disk(family.experts["math"])


def test_a_base_that_was_forgotten_is_named_by_adding_again(repo: Repo, family: families.Family) -> None:
    tuned = family.experts["math"]
    orphan = ingest.add(repo, tuned, "math")
    base = ingest.add(repo, family.base, "base").commit
    assert repo.commit(orphan.commit).parents == ()
    named = ingest.add(repo, tuned, "math", base=base)
    assert named.committed.created
    assert Parent("base", base) in repo.commit(named.commit).parents
    assert named.committed.manifest == orphan.committed.manifest
    assert not ingest.add(repo, tuned, "math", base=base).committed.created
    assert not ingest.add(repo, tuned, "math").committed.created
    assert not ingest.add(repo, tuned, "math", base=named.commit).committed.created  # itself


def test_what_changed_is_read_and_only_that(
    repo: Repo, family: families.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(family.base, 10)
    base = ingest.add(repo, family.base, "base").commit
    seen = opened_files(monkeypatch)
    shard = family.base / "model-00002-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    stat = shard.stat()
    shard.write_bytes(bytes(data))
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # hides the change from mtime, not from ctime
    result = ingest.add(repo, family.base, "base", base=base)
    assert seen == ["model-00002-of-00002.safetensors"]
    assert result.committed.created
    assert content(repo, "base") == on_disk(family.base)
    pair = repo.statistics(repo.commit(base).manifest, result.committed.manifest)
    assert pair is not None  # of the shard that was not read as well
    assert pair.keys == tuple(sorted(families.base_tensors()))
    assert int((~pair.equal).sum()) == 1


def test_a_file_written_in_the_tick_of_the_scan_is_not_trusted(
    repo: Repo, family: families.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(family.base, -60)  # as if written at the very moment of the scan, or later
    ingest.add(repo, family.base, "base")
    seen = opened_files(monkeypatch)
    again = ingest.add(repo, family.base, "base")
    assert sorted(seen) == sorted(on_disk(family.base))
    assert again.as_json()["new_blocks"] == 0
    assert not again.committed.created


def test_a_stat_cache_that_is_odd_is_forgotten(repo: Repo, family: families.Family) -> None:
    age(family.base, 10)
    first = ingest.add(repo, family.base, "base")
    cache = Path(repo.root) / "cache" / "stat-cache"
    assert cache.is_file()
    for noise in (b"", b"\xff" * 50, b"\x92\x01\x81\xa1a\x93\x01\x02\x03", b"\x90"):
        cache.write_bytes(noise)
        assert ingest.add(repo, family.base, "base").commit == first.commit


def test_the_nearest_branch_is_found_and_strangers_are_not(
    repo: Repo, family: families.Family, tmp_path: Path
) -> None:
    stranger = families.write_checkpoint(tmp_path / "stranger", families.base_tensors(seed=77))
    assert ingest.add(repo, stranger, "aaa").base is None
    base = ingest.add(repo, family.base, "base")
    assert base.base is None
    assert ingest.add(repo, family.experts["math"], "math").base == "base"
    near = families.fine_tuned(families.read_checkpoint(family.experts["code"]), 99, scale=1e-5)
    ingest.add(repo, family.experts["code"], "code")
    assert ingest.add(repo, families.write_checkpoint(tmp_path / "code2", near), "code2").base == "code"
    # a branch keeps its base though a sibling is nearer by now
    ingest.add(repo, families.write_checkpoint(tmp_path / "math2", near), "math")
    assert repo.commit(repo.tip("math") or b"").parents[-1].commit == base.commit


def lying(header_size: int) -> bytes:
    return header_size.to_bytes(8, "little") + b"{}"


def test_nothing_is_named_when_the_input_is_bad(repo: Repo, family: families.Family) -> None:
    good = on_disk(family.base)
    shard = family.base / "model-00002-of-00002.safetensors"
    for bad in (b"", good[shard.name][:-1], good[shard.name] + b"x", lying(50), lying(2**40)):
        shard.write_bytes(bad)
        with pytest.raises(DamagedError, match="00002-of-00002") as caught:
            ingest.add(repo, family.base, "base")
        assert caught.value.exit_code == 4
    assert repo.tip("base") is None
    shard.write_bytes(good[shard.name])
    ingest.add(repo, family.base, "base")
    assert content(repo, "base") == good


def test_a_branch_that_moved_meanwhile_is_a_conflict(
    repo: Repo, family: families.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.add(repo, family.base, "base")
    original = ingest.CheckpointWriter.commit

    def late(self: Any, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(ingest.CheckpointWriter, "commit", original)
        ingest.add(Repo.open(repo.root), family.experts["code"], "base")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ingest.CheckpointWriter, "commit", late)
    with pytest.raises(ConflictError):
        ingest.add(repo, family.experts["math"], "base")
    assert content(repo, "base") == on_disk(family.experts["code"])


class Trickle(io.RawIOBase):
    """A stream without readinto that gives odd pieces, as a network does."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._turn = 0

    def read(self, size: int = -1) -> bytes:
        self._turn += 1
        return self._data.read(min(size, 1 + self._turn * 37 % 501))

    readinto = None  # type: ignore[assignment]


def test_streams_in_parallel_make_the_manifest_of_a_directory(repo: Repo, family: families.Family) -> None:
    base = ingest.add(repo, family.base, "base")
    wanted = ingest.add(repo, family.experts["math"], "math", base=base.commit)
    other = Repo.init(Path(repo.root).parent.parent / "other", SMALL)
    based = ingest.add(other, family.base, "base").commit
    errors: list[BaseException] = []
    with ingest.CheckpointWriter(other, base=based, threads=2) as writer:

        def bring(path: str, data: bytes) -> None:
            try:
                add = writer.add_safetensors if path.endswith(".safetensors") else writer.add_opaque
                add(path, Trickle(data), len(data), hashlib.sha256(data).digest())
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=bring, args=item) for item in on_disk(family.experts["math"]).items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        done = writer.commit("pulled", None, how={"verb": "pull"})
    assert done.manifest == wanted.committed.manifest
    here, there = (r.statistics(repo.commit(base.commit).manifest, done.manifest) for r in (repo, other))
    assert here is not None
    assert there is not None
    assert np.array_equal(here.delta_sq, there.delta_sq)


def test_a_stream_that_is_not_what_was_promised_is_damage(repo: Repo, family: families.Family) -> None:
    path = "model-00001-of-00002.safetensors"
    data = (family.base / path).read_bytes()
    corrupt = data[:-1] + bytes([data[-1] ^ 1])
    right = hashlib.sha256(data).digest()
    for stream, size, message in (
        (corrupt, len(data), "SHA-256"),
        (data[:-1], None, "ends after byte"),
        (data + b"!", None, "goes on after its end"),
        (data, len(data) + 1, "belong to nothing|cut off|after its last"),
    ):
        with ingest.CheckpointWriter(repo) as writer, pytest.raises(DamagedError, match=message):
            writer.add_safetensors(path, io.BytesIO(stream), size, right)
        with ingest.CheckpointWriter(repo) as writer, pytest.raises(DamagedError):
            writer.add_opaque("x.bin", io.BytesIO(stream), size, right)
    with ingest.CheckpointWriter(repo) as writer, pytest.raises(DamagedError):
        writer.add_opaque("../x.bin", io.BytesIO(b"x"))


def test_tensors_of_one_name_in_two_files_are_told_apart(repo: Repo, tmp_path: Path) -> None:
    directory = tmp_path / "twice"
    (directory / "vae").mkdir(parents=True)
    for path, value in (("a.safetensors", 1), ("b.safetensors", 2), ("vae/a.safetensors", 3)):
        tensors = {"w": np.full(100, value, np.float32)}
        (directory / path).write_bytes(families.safetensors_bytes(tensors))
    base = ingest.add(repo, directory, "twice").commit
    manifest = manifest_of(repo, "twice")
    assert list(manifest.tensors) == ["b.safetensors:w", "vae/w", "w"]
    assert repo.read_tensor(manifest, "b.safetensors:w")[0] == 2
    moved = {path: data.replace(b"\x00@", b"\x10@") for path, data in on_disk(directory).items()}
    with ingest.CheckpointWriter(repo, base=base) as writer:  # in an order that is not the manifest's
        for path in sorted(moved, reverse=True):
            writer.add_safetensors(path, io.BytesIO(moved[path]))
        done = writer.commit("moved", None)
    assert content(repo, "moved") == moved
    pair = repo.statistics(repo.commit(base).manifest, done.manifest)
    assert pair is not None
    assert pair.keys == ("b.safetensors:w", "vae/w", "w")
    assert pair.equal[pair.rows("w")].all()
    assert not pair.equal[pair.rows("b.safetensors:w")].any()


def test_base_blocks_are_read_only_where_they_differ(repo: Repo, family: families.Family) -> None:
    base = ingest.add(repo, family.base, "base").commit
    path = "model-00001-of-00002.safetensors"
    data = bytearray((family.base / path).read_bytes())
    for flips, lowest, highest in ((0, 0, 0), (1, 1, 2 * 2 * BLOCK)):
        if flips:
            data[-1] ^= 1
        fresh = Repo.open(repo.root)
        with ingest.CheckpointWriter(fresh, base=base) as writer:
            writer.add_safetensors(path, io.BytesIO(bytes(data)))
        assert lowest <= fresh.objects.meter.read_bytes("base") <= highest


def test_disk_full_and_read_only_are_said_with_the_path(repo: Repo, family: families.Family) -> None:
    ingest.add(repo, family.base, "base")

    def full(operation: files.Operation) -> None:
        if operation.kind == "write" and "tmp" in operation.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.set_observer(full)
    try:
        with pytest.raises(StorageError, match="No space left on device") as caught:
            ingest.add(repo, family.experts["math"], "math")
        assert repo.root in caught.value.message
        assert caught.value.exit_code == 1
    finally:
        files.set_observer(None)
    assert repo.tip("math") is None
    ingest.add(repo, family.experts["math"], "math")
    assert content(repo, "math") == on_disk(family.experts["math"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB, where the machine lets us mount one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", os.fspath(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a file system here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", os.fspath(mount)], check=True)


def test_a_disk_that_is_really_full_or_read_only(
    small_disk: Path, family: families.Family, tmp_path: Path
) -> None:
    noise = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    large = families.write_checkpoint(tmp_path / "large", {"noise": noise}, shards=1)
    repo = Repo.init(small_disk, SMALL)
    ingest.add(repo, family.base, "base")
    with pytest.raises(StorageError, match="No space left on device") as caught:
        ingest.add(repo, large, "large")
    assert os.fspath(small_disk) in caught.value.message
    assert caught.value.hint
    fresh = Repo.open(small_disk)
    assert fresh.tip("large") is None
    assert content(fresh, "base") == on_disk(family.base)
    with pytest.raises(StorageError, match="No space left on device"):
        export.checkout(Repo.open(small_disk), fresh.tip("base") or b"", small_disk / "out")
    assert not (small_disk / "out").exists()
    subprocess.run(["mount", "-o", "remount,ro", os.fspath(small_disk)], check=True)
    with pytest.raises(StorageError, match="Read-only file system") as caught:
        ingest.add(Repo.open(small_disk), family.experts["math"], "math")
    assert os.fspath(small_disk) in caught.value.message
    assert content(Repo.open(small_disk), "base") == on_disk(family.base)


def test_every_fault_of_an_add_leaves_the_next_one_able(tmp_path: Path) -> None:
    """Invariant 5 in small: an error at each operation in turn, then the same add again."""
    tensors = {"w": np.arange(200, dtype=np.float32)}
    directory = families.write_checkpoint(tmp_path / "model", tensors, shards=1)
    with striking(Fault(0, "EIO")) as calm:
        ingest.add(Repo.init(tmp_path / "calm", TINY), directory, "w")
    for fatal in range(1, calm.count + 1):
        if fatal % 10 == 1:  # a repository of hundreds of adds opens slowly, and shows nothing more
            repo = Repo.init(tmp_path / f"faulty-{fatal}", TINY)
        try:
            with striking(Fault(fatal, "EIO")):
                ingest.add(Repo.open(repo.root), directory, f"b{fatal}")
        except StorageError:
            ingest.add(Repo.open(repo.root), directory, f"b{fatal}")
        assert content(Repo.open(repo.root), f"b{fatal}") == on_disk(directory)
