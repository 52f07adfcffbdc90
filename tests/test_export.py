"""Checkout: byte for byte, whole or not at all, and only what differs where that is asked for."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections import Counter
from pathlib import Path

import families
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import dtypes, export, files, ingest, processes
from mpstore.codecs import Format, codes
from mpstore.errors import DamagedError, NotFoundError, StorageError, UsageError
from mpstore.export import content
from mpstore.export.status import FileStatus
from mpstore.records.config import Config
from mpstore.records.encoding import encode
from mpstore.records.model import Commit, FileEntry, Manifest, TensorRecord
from mpstore.repository import Repo
from mpstore.safetensors_file import build_header
from mpstore.store.frame import FrameHeader
from mpstore.store.pack import BLOCKS, PackWriter, set_read_observer

SMALL = Config(block_elements=256, pack_bytes=1 << 16, threads=2)
TENSORS = {
    "model.embed.weight": np.arange(3000, dtype=np.float32).reshape(30, 100),
    "model.layers.0.mlp.weight": np.linspace(-1, 1, 2049, dtype=np.float32),
    "model.layers.1.mlp.weight": np.full((7, 11), 3, np.float16),
    "model.empty": np.zeros((0, 3), np.float32),
    "model.scalar": np.array(5, np.int64),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = families.write_checkpoint(tmp_path / "source", TENSORS)
    (directory / "notes").mkdir()
    (directory / "notes" / "empty.txt").write_bytes(b"")
    (directory / "README.md").write_bytes(b"# \xc3\xbc\n" * 100_000)
    return directory


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> Repo:
    repo = Repo.init(tmp_path / "repo", SMALL)
    ingest.add(repo, source, "main")
    return repo


def tip(repo: Repo, branch: str = "main") -> bytes:
    commit = repo.tip(branch)
    assert commit is not None
    return commit


def on_disk(directory: Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def second(repo: Repo, source: Path, tmp_path: Path) -> Path:
    """A second commit on main: one element of one tensor and the README differ, a file is new."""
    directory = Path(shutil.copytree(source, tmp_path / "second"))
    shard = directory / "model-00001-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    (directory / "README.md").write_text("short")
    (directory / "added.json").write_text("{}")
    ingest.add(repo, directory, "main")
    return directory


def test_checkout_is_byte_exact_with_any_number_of_threads(repo: Repo, source: Path, tmp_path: Path) -> None:
    for threads in (1, 2, 5):
        target = tmp_path / "deep" / f"out{threads}"
        done = export.checkout(repo, tip(repo), target, threads=threads)
        assert on_disk(target) == on_disk(source)
        assert done.as_json()["files"] == len(on_disk(source))
        assert done.raw_bytes == done.written_bytes == sum(map(len, on_disk(source).values()))
        assert [path.name for path in (tmp_path / "deep").iterdir() if path.name.startswith(".")] == []


def test_blocks_that_were_decoded_together_are_written_together(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal(5 << 18).astype(np.float32)
    source = families.write_checkpoint(tmp_path / "source", {"model.weight": values}, shards=1)
    repo = Repo.init(tmp_path / "repo", Config(block_elements=1 << 14, threads=2))
    ingest.add(repo, source, "main")
    sizes: list[int] = []

    def observe(operation: files.Operation) -> None:
        if operation.kind == "write" and operation.data is not None:
            sizes.append(operation.data.nbytes)

    files.set_observer(observe)
    try:
        export.checkout(repo, tip(repo), tmp_path / "out")
    finally:
        files.set_observer(None)
    assert on_disk(tmp_path / "out") == on_disk(source)
    assert max(sizes) >= 1 << 20  # of blocks of 64 KiB; the header is decoded with the first 4 MiB


def test_only_what_lies_behind_each_other_is_joined() -> None:
    one, other = np.arange(100, dtype=np.uint8), np.arange(100, dtype=np.uint8)
    alone = np.arange(4, dtype=np.uint8)
    pieces = [
        one[10:20],
        one[20:30],
        one[30:31],
        other[:5],
        other[6:8],
        other[8:9],
        one[:10],
        alone,
        alone[:2],
    ]
    joined = content.joined(pieces)
    assert [piece.tolist() for piece in joined] == [
        one[10:31].tolist(), other[:5].tolist(), other[6:9].tolist(), one[:10].tolist(), [0, 1, 2, 3], [0, 1],
    ]  # fmt: skip
    assert content.joined([]) == []
    rows = np.full((3, 4), 7, np.uint8)  # what has the memory is no row of bytes
    assert len(content.joined(list(rows))) == 3


def test_an_empty_directory_is_filled_and_a_full_one_is_refused(
    repo: Repo, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    export.checkout(repo, tip(repo), target)
    (target / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty") as caught:
        export.checkout(repo, tip(repo), target)
    assert "--force" in str(caught.value.hint)
    assert (target / "mine.txt").read_text() == "precious"
    export.checkout(repo, tip(repo), target, force=True)
    assert on_disk(target) == on_disk(source)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="not a directory"):
        export.checkout(repo, tip(repo), tmp_path / "file", force=True)


def test_the_repository_is_never_replaced(repo: Repo, tmp_path: Path) -> None:
    home = Path(repo.root).parent
    (tmp_path / "way").symlink_to(home)
    for target in (home, tmp_path, tmp_path / "way", Path(repo.root), Path(repo.root) / "objects"):
        with pytest.raises(UsageError, match="repository"):
            export.checkout(repo, tip(repo), target, force=True)
    with pytest.raises(UsageError, match="inside the repository"):
        export.checkout(repo, tip(repo), Path(repo.root) / "new", update=True)
    with pytest.raises(UsageError, match="one of them"):
        export.checkout(repo, tip(repo), tmp_path / "x", update=True, force=True)


def test_invariant_05_a_fault_at_any_operation_leaves_the_target_as_it_was(
    repo: Repo, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    kinds: list[str] = []
    files.set_observer(lambda operation: kinds.append(operation.kind))
    try:
        export.checkout(repo, tip(repo), tmp_path / "calm", threads=1)
    finally:
        files.set_observer(None)
    assert {"write", "fsync", "fsync_dir", "rename", "mkdir"} <= set(kinds)
    for fatal in range(len(kinds) - 1):
        left = [fatal]

        def fault(operation: files.Operation, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), operation.path)

        files.set_observer(fault)
        try:
            with pytest.raises(StorageError, match="No space left"):
                export.checkout(repo, tip(repo), target, force=True, threads=1)
        finally:
            files.set_observer(None)
        names = {path.name for path in tmp_path.iterdir()} - {"repo", "source", "out", "calm"}
        assert names == set(), fatal
        found = on_disk(target)
        assert found == {"old.txt": b"old"} or found == on_disk(source)
        if found != {"old.txt": b"old"}:  # the rename had come to pass: only its fsync failed
            shutil.rmtree(target)
            target.mkdir()
            (target / "old.txt").write_text("old")


def test_what_a_dead_checkout_left_is_swept(repo: Repo, tmp_path: Path) -> None:
    dead = processes.current().token.split(".")
    dead[2] = "00000000" if dead[2] != "00000000" else "11111111"  # of an earlier boot
    litter = tmp_path / f".out.mp-{'.'.join(dead)}-1"
    alive = tmp_path / f".out.mp-{processes.current().token}-999999"
    for directory in (litter, alive):
        directory.mkdir()
        (directory / "x").write_text("x")
    export.checkout(repo, tip(repo), tmp_path / "out")
    assert not litter.exists()
    assert alive.exists()


def test_update_writes_only_what_differs(repo: Repo, source: Path, tmp_path: Path) -> None:
    first, target = tip(repo), tmp_path / "out"
    assert export.checkout(repo, first, target, update=True).written_bytes > 0  # it did not exist
    assert export.checkout(repo, first, target, update=True).written_bytes == 0
    wanted = second(repo, source, tmp_path)
    (target / "mine.txt").write_text("kept")
    written: list[files.Operation] = []
    files.set_observer(lambda operation: written.append(operation) if operation.kind == "write" else None)
    try:
        done = export.checkout(repo, tip(repo), target, update=True)
    finally:
        files.set_observer(None)
    assert on_disk(target) == {**on_disk(wanted), "mine.txt": b"kept"}
    in_place = [op for op in written if op.path.endswith(".safetensors")]
    assert len(in_place) == 1
    assert in_place[0].data is not None
    assert in_place[0].data.nbytes <= 256 * 4
    assert done.written_bytes == sum(op.data.nbytes for op in written if op.data is not None)


def test_update_never_writes_through_links(repo: Repo, source: Path, tmp_path: Path) -> None:
    target, outside = tmp_path / "out", tmp_path / "outside"
    export.checkout(repo, tip(repo), target)
    outside.mkdir()
    blob = outside / "blob"
    blob.write_bytes((target / "README.md").read_bytes()[::-1])
    before = blob.read_bytes()
    (target / "README.md").unlink()
    (target / "README.md").symlink_to(blob)
    os.link(target / "config.json", outside / "shared.json")
    (outside / "shared.json").write_bytes(b"#" * (target / "config.json").stat().st_size)
    export.checkout(repo, tip(repo), target, update=True)
    assert on_disk(target) == on_disk(source)
    assert blob.read_bytes() == before
    assert set((outside / "shared.json").read_bytes()) == {ord("#")}
    shutil.rmtree(target / "notes")
    (target / "notes").symlink_to(outside)
    with pytest.raises(UsageError, match="no directory of its own"):
        export.checkout(repo, tip(repo), target, update=True)
    assert {path.name for path in outside.iterdir()} == {"blob", "shared.json"}


def test_some_tensors_make_one_file_of_the_librarys(repo: Repo, tmp_path: Path) -> None:
    target = tmp_path / "part"
    export.checkout(repo, tip(repo), target, tensors=["*.mlp.*", "model.scalar", "model.empty"])
    assert [path.name for path in target.iterdir()] == ["model.safetensors"]
    loaded = safetensors.numpy.load_file(target / "model.safetensors")
    wanted = {key: TENSORS[key] for key in TENSORS if key != "model.embed.weight"}
    assert set(loaded) == set(wanted)
    for key, array in loaded.items():
        assert array.dtype == wanted[key].dtype
        assert np.array_equal(array, wanted[key])
    assert (target / "model.safetensors").read_bytes() == safetensors.numpy.save(wanted, {"format": "pt"})
    with pytest.raises(NotFoundError, match=r"no tensor fits 'model\.embd\.weight'") as caught:
        export.checkout(repo, tip(repo), tmp_path / "none", tensors=["model.embd.weight"])
    assert "model.embed.weight" in str(caught.value.hint)


def test_damage_is_told_and_nothing_appears(repo: Repo, tmp_path: Path) -> None:
    packs = Path(repo.root) / "objects" / "packs"
    largest = max(packs.glob("*.pack"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    os.chmod(largest, 0o644)
    largest.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=r"pack|object"):
        export.checkout(Repo.open(repo.root), tip(repo), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def damage(repo: Repo, to: Path) -> str:
    """What a checkout of "tuned" says of damage, anew from the disk; nothing where there is none."""
    try:
        export.checkout(Repo.open(repo.root), tip(repo, "tuned"), to, threads=1)
    except DamagedError as error:
        return str(error)
    return ""


@pytest.fixture
def tuned(repo: Repo, source: Path) -> Path:
    """A fine-tune of main on the branch "tuned": its blocks lean on main's."""
    directory = Path(shutil.copytree(source, source.parent / "tuned"))
    for shard in sorted(directory.glob("*.safetensors")):
        with safetensors.safe_open(shard, "numpy") as opened:
            start = int.from_bytes(shard.read_bytes()[:8], "little") + 8
            assert list(opened.keys())
        data = bytearray(shard.read_bytes())
        data[start::8] = bytes(one ^ 1 for one in data[start::8])
        shard.write_bytes(bytes(data))
    ingest.add(repo, directory, "tuned", base=tip(repo), base_name="main")
    return directory


def test_a_bit_that_flips_anywhere_is_told_by_its_place(repo: Repo, tuned: Path, tmp_path: Path) -> None:
    """A checkout spares the hash of each block, since it has that of the file: nothing else may change."""
    told = set()
    for pack in sorted((Path(repo.root) / "objects" / "packs").glob("*.pack")):
        os.chmod(pack, 0o644)
        whole = pack.read_bytes()
        for at in range(40, len(whole), max(1, len(whole) // 13)):
            pack.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
            error = damage(repo, tmp_path / "out")
            if error:
                assert pack.name in error
                told.add("content is not" in error)
                assert not (tmp_path / "out").exists()
            else:
                assert on_disk(tmp_path / "out") == on_disk(tuned)
                shutil.rmtree(tmp_path / "out")
        pack.write_bytes(whole)
    assert told == {False, True}  # some do not decode, some decode to something else


def test_what_was_read_wrongly_once_is_read_again(repo: Repo, tuned: Path, tmp_path: Path) -> None:
    """The second look at a file whose hash is wrong finds it right: a disk that erred, or the memory."""
    packs = sorted((Path(repo.root) / "objects" / "packs").glob("*.pack"))
    pack = max(packs, key=lambda path: path.stat().st_size)
    os.chmod(pack, 0o644)
    whole = pack.read_bytes()
    seen: Counter[tuple[str, int]] = Counter()

    def mend(path: str, offset: int, _length: int, _purpose: str) -> None:
        seen[path, offset] += 1
        if path == str(pack) and seen[path, offset] > 1:
            pack.write_bytes(whole)

    mended = 0
    for at in range(40, len(whole), max(1, len(whole) // 13)):
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        seen.clear()
        set_read_observer(mend)
        error = damage(repo, tmp_path / "out")
        set_read_observer(None)
        if not error:
            assert on_disk(tmp_path / "out") == on_disk(tuned)
            shutil.rmtree(tmp_path / "out")
            mended += pack.read_bytes() == whole
    assert mended


def rewritten(repo: Repo, change: dict[str, object]) -> bytes:
    """A commit whose manifest has its config.json entry changed."""
    manifest = repo.manifest(repo.commit(tip(repo)).manifest)
    entries = tuple(
        FileEntry(**{**vars(entry), **change}) if entry.path == "config.json" else entry
        for entry in manifest.files
    )
    with repo.objects.writer("test") as writer:
        lying = repo.put(writer, Manifest(tuple(sorted(entries, key=lambda e: e.path)), manifest.tensors))
        commit = repo.put(writer, Commit(lying, (), "full", "", 0, "", {"verb": "add"}))
        writer.finish()
    return commit


def test_a_manifest_that_contradicts_its_content_is_damage(repo: Repo, tmp_path: Path) -> None:
    size = (tmp_path / "source" / "config.json").stat().st_size
    for change, message in (
        ({"sha256": bytes(32)}, "SHA-256"),
        ({"size": size + 1}, "expected|fit"),
        ({"size": size + (1 << 20)}, "do not fit"),
        ({"size": 1 << 50}, "do not fit"),
        ({"content_ids": b""}, "do not fit"),
    ):
        with pytest.raises(DamagedError, match=message):
            export.checkout(repo, rewritten(repo, change), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert encode(repo.manifest(repo.commit(tip(repo)).manifest))  # the true one is whole


def test_an_update_compares_the_sha256_too(repo: Repo, source: Path, tmp_path: Path) -> None:
    """Its blocks are compared one by one, which says nothing of how a manifest puts them together."""
    lying = rewritten(repo, {"sha256": bytes(32)})
    export.checkout(repo, tip(repo), tmp_path / "out")
    for harm in (b"", b"?"):
        if harm:  # a block differs, and is written
            (tmp_path / "out" / "config.json").write_bytes(harm + on_disk(source)["config.json"][1:])
        with pytest.raises(DamagedError, match=r"config\.json: SHA-256 is .*, recorded is 0000"):
            export.checkout(repo, lying, tmp_path / "out", update=True)
    export.checkout(repo, tip(repo), tmp_path / "out", update=True)
    assert on_disk(tmp_path / "out") == on_disk(source)


def test_blocks_that_would_end_within_a_byte_are_damage(repo: Repo) -> None:
    with repo.objects.writer("test") as session:
        ids = session.put(b"\x12") + session.put(b"\x34")
        record = repo.put(session, TensorRecord("F4", (2,), 1, ids))
        session.finish()
    with pytest.raises(DamagedError, match="do not end on a byte"):
        repo.read_tensor(Manifest((), {"t": record}), "t")


def test_a_block_that_claims_to_be_long_is_not_decoded(repo: Repo, tmp_path: Path) -> None:
    """A frame of a few bytes that stands for a gigabyte."""
    lie = FrameHeader(bytes([7] * 32), codes.CONST, Format.F32, 1 << 30, (4,))
    writer = PackWriter(repo.objects.layout.tmp, BLOCKS)
    writer.append(lie, [b"once"])
    writer.publish(repo.objects.layout.packs, writer.seal())
    tensor = TensorRecord("F32", (2,), 256, lie.id)
    header = build_header([("t", dtypes.known("F32"), (2,))]).raw
    with repo.objects.writer("test") as session:
        entry = FileEntry("a.safetensors", "safetensors", len(header) + 8, b"", session.put(header), ("t",))
        manifest = Manifest((entry,), {"t": repo.put(session, tensor)})
        commit = repo.put(
            session, Commit(repo.put(session, manifest), (), "full", "", 0, "", {"verb": "add"})
        )
        session.finish()
    lying = Repo.open(repo.root)
    with pytest.raises(DamagedError, match="of 1073741824 bytes, where 8 are expected"):
        export.checkout(lying, commit, tmp_path / "out")
    with pytest.raises(DamagedError, match="of 1073741824 bytes, where 8 are expected"):
        lying.read_tensor(manifest, "t")


def test_status_tells_by_content(repo: Repo, source: Path, tmp_path: Path) -> None:
    manifest = repo.manifest(repo.commit(tip(repo)).manifest)
    assert {one.state for one in export.status(repo, manifest, source)} == {"equal"}
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    shard = copy / "model-00002-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    (copy / "config.json").unlink()
    (copy / "notes" / "more.txt").write_text("")
    found = export.status(repo, manifest, copy, threads=2)
    assert [one for one in found if one.state != "equal"] == [
        FileStatus("config.json", "missing"),
        FileStatus("model-00002-of-00002.safetensors", "changed"),
        FileStatus("notes/more.txt", "new"),
    ]
    assert [one.path for one in found] == sorted(one.path for one in found)
    with pytest.raises(NotFoundError):
        export.status(repo, manifest, tmp_path / "absent")


@given(st.integers(0, 600_000), st.integers(0, 600_000), st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_any_range_of_a_file_can_be_streamed(
    tmp_path_factory: pytest.TempPathFactory, start: int, stop: int, threads: int
) -> None:
    root = tmp_path_factory.getbasetemp() / "ranges"
    rng = np.random.default_rng(3)
    data = families.safetensors_bytes(
        {"w": rng.integers(0, 9, 60_000).astype(np.float32), "e": TENSORS["model.empty"]}
    )
    if not root.exists():
        with ingest.CheckpointWriter(Repo.init(root, SMALL)) as writer:
            writer.add_safetensors("model.safetensors", io.BytesIO(data))
            writer.add_opaque("x.txt", io.BytesIO(bytes(range(256)) * 2200))
            writer.commit("main", None)
    repo = Repo.open(root)
    manifest = repo.manifest(repo.commit(tip(repo)).manifest)
    for entry, whole in zip(manifest.files, (data, bytes(range(256)) * 2200), strict=True):
        content = export.file_content(repo, manifest, entry)
        assert content.size == len(whole)
        parts = list(content.stream(start, stop, threads))
        assert b"".join(map(bytes, parts)) == whole[start:stop]
        assert all(parts)


def test_a_tensor_that_was_never_fetched_is_named(repo: Repo, tmp_path: Path) -> None:
    manifest = repo.manifest(repo.commit(tip(repo)).manifest)
    partial = Manifest(manifest.files, {**manifest.tensors, "model.scalar": b""})
    with repo.objects.writer("test") as writer:
        commit = repo.put(writer, Commit(repo.put(writer, partial), (), "full", "", 0, "", {"verb": "pull"}))
        writer.finish()
    with pytest.raises(NotFoundError, match=r"'model.scalar' was never fetched") as caught:
        export.checkout(repo, commit, tmp_path / "out")
    assert "mp pull" in str(caught.value.hint)
    export.checkout(repo, commit, tmp_path / "part", tensors=["model.e*"])
