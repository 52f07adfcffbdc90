"""Scanning a directory: what belongs to a checkpoint, and everything that is told before content is read."""

from __future__ import annotations

import inspect
import json
import os
import socket
import sys
from pathlib import Path

import families
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpstore.checkpoint_dir import check_path, scan, tensor_keys
from mpstore.errors import DamagedError, IncompatibleError, MpError, NotFoundError

TENSORS = {name: np.arange(6, dtype=np.float32) for name in ("a", "b", "c", "d")}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return families.write_checkpoint(tmp_path / "model", TENSORS)


def names(path: Path) -> list[str]:
    return [file.path for file in scan(path).files]


def test_every_file_belongs_and_hidden_stores_do_not(checkpoint: Path) -> None:
    before = names(checkpoint)
    assert before == sorted(entry.name for entry in checkpoint.iterdir())
    for skipped in (".git", ".mp", ".cache"):
        (checkpoint / skipped).mkdir()
        (checkpoint / skipped / "x").write_text("x")
    (checkpoint / "onnx").mkdir()
    (checkpoint / "onnx" / "model.onnx").write_bytes(b"1")
    assert names(checkpoint) == sorted([*before, "onnx/model.onnx"])
    found = scan(checkpoint)
    assert found.kind == "full"
    assert sum(len(header.tensors) for header in found.headers.values()) == 4
    assert found.size == sum((checkpoint / file.path).stat().st_size for file in found.files)


def test_one_safetensors_file_is_a_checkpoint(checkpoint: Path) -> None:
    single = checkpoint / "model-00001-of-00002.safetensors"
    assert names(single) == [single.name]
    with pytest.raises(IncompatibleError, match=r"no \.safetensors file"):
        scan(checkpoint / "config.json")


def test_links_of_the_hubs_cache_are_followed(checkpoint: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in checkpoint.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    assert names(snapshot) == names(checkpoint)
    (snapshot / "more").symlink_to(checkpoint)
    with pytest.raises(IncompatibleError, match="link to a directory"):
        scan(snapshot)
    (snapshot / "more").unlink()
    (snapshot / "gone.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="link to nothing"):
        scan(snapshot)


def test_special_files_are_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(checkpoint / "pipe")
    with pytest.raises(IncompatibleError, match="not a regular file"):
        scan(checkpoint)
    (checkpoint / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(checkpoint)
        listener.bind("s")
        with pytest.raises(IncompatibleError, match="not a regular file"):
            scan(checkpoint)


def test_directories_may_nest_deeper_than_calls(checkpoint: Path) -> None:
    deep = "d/" * 300
    os.makedirs(checkpoint / deep)
    (checkpoint / deep / "x").touch()
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert f"{deep}x" in names(checkpoint)
    finally:
        sys.setrecursionlimit(usual)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "x.ckpt", "m.pkl", "w.pt"])
def test_only_pickled_weights_are_refused_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(IncompatibleError, match=name) as caught:
        scan(tmp_path)
    assert "never unpickles" in caught.value.message
    assert "convert" in str(caught.value.hint)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="is empty"):
        scan(tmp_path)
    with pytest.raises(NotFoundError):
        scan(tmp_path / "absent")
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DamagedError, match="git-lfs pointer"):
        scan(tmp_path)


def test_index_must_agree_with_the_files(checkpoint: Path) -> None:
    (index,) = checkpoint.glob("*.index.json")
    table = json.loads(index.read_text())

    def with_map(weight_map: object) -> None:
        index.write_text(json.dumps({**table, "weight_map": weight_map}))

    with_map({**table["weight_map"], "e": "model-00001-of-00002.safetensors"})
    with pytest.raises(DamagedError, match="tensor 'e' should be in 'model-00001"):
        scan(checkpoint)
    with_map({**table["weight_map"], "e": "../other.safetensors"})
    with pytest.raises(DamagedError, match="which is not there"):
        scan(checkpoint)
    for odd in (7, {"a": 3}, ["a"]):
        with_map(odd)
        with pytest.raises(DamagedError, match="weight_map"):
            scan(checkpoint)
    for text in ("{", "[]", "[" * 50_000, "\xff"):
        index.write_bytes(text.encode("latin-1"))
        with pytest.raises(DamagedError):
            scan(checkpoint)
    index.write_text(json.dumps(table))
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DamagedError, match="is not there"):
        scan(checkpoint)


def test_kinds_are_found_out(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(families.safetensors_bytes(TENSORS))
    assert scan(adapter).kind == "full"
    (adapter / "adapter_config.json").write_text("{}")
    assert scan(adapter).kind == "lora"
    (adapter / "model.safetensors").write_bytes(families.safetensors_bytes({"z": TENSORS["a"]}))
    assert scan(adapter).kind == "full"
    delta = tmp_path / "delta.safetensors"
    delta.write_bytes(families.safetensors_bytes(TENSORS, {"__metadata__": {"mp_kind": "delta"}}))
    assert scan(delta).kind == "delta"


def test_keys_are_unique_and_readable() -> None:
    files = [("b.safetensors", ["w", "v"]), ("a.safetensors", ["w"]), ("vae/x.safetensors", ["w"])]
    keys = tensor_keys(files)
    assert keys["a.safetensors"] == ("w",)
    assert keys["b.safetensors"] == ("b.safetensors:w", "v")
    assert keys["vae/x.safetensors"] == ("vae/w",)
    with pytest.raises(DamagedError, match="cannot be told"):
        tensor_keys([("a.safetensors", ["w", "b.safetensors:w"]), ("b.safetensors", ["w"])])


parts = st.sampled_from(["..", ".", "", "a", ".git", ".MP", "b c"])


@given(st.text(max_size=12) | st.lists(parts, max_size=4).map("/".join))
def test_invariant_11_no_path_leaves_the_directory_it_was_given(path: str) -> None:
    try:
        check_path(path)
    except MpError:
        return
    inside = os.path.normpath(os.path.join("/target", path))
    assert inside == "/target/" + path
    assert "\\" not in path
    assert "\n" not in path


HOSTILE = ["/etc/x", "../x", "a/../../x", "a//b", "a/", ".git/c", "a\nb", "a\\b", "", "\udcff", "x" * 256]


@pytest.mark.parametrize("path", HOSTILE)
def test_paths_that_no_checkpoint_may_have(path: str) -> None:
    with pytest.raises(DamagedError):
        check_path(path)
    check_path("unet/diffusion model.safetensors")
