"""Pulling: what arrives is what the Hub has, once, and only what is lacking is transferred."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from families import base_tensors, fine_tuned, safetensors_bytes, write_checkpoint

from hub.conftest import files_of
from hub.server import TestHub
from mpstore.api import Repository
from mpstore.errors import IncompatibleError, NotFoundError, RemoteError, UsageError


def checked_out(repository: Repository, revision: str, into: Path) -> dict[str, bytes]:
    repository.checkout(revision, into)
    return files_of(into)


def test_a_pull_brings_every_file_byte_for_byte_and_names_its_origin(
    hub: TestHub, repository: Repository, family: dict[str, Path], tmp_path: Path
) -> None:
    files = files_of(family["base"])
    commit = hub.put("org/base", files)
    pulled = repository.pull("hf://org/base", branch="base", endpoint=hub.url)
    assert pulled.revision == commit
    assert checked_out(repository, "base", tmp_path / "out") == files
    assert repository.show("base").info.commit.how["origin"]["commit"] == commit
    assert [remote.branch for remote in repository.remotes()] == ["base"]


def test_a_pull_against_a_base_equals_an_add(
    hub: TestHub, repository: Repository, family: dict[str, Path]
) -> None:
    repository.add(family["base"], "base")
    hub.put("org/math", files_of(family["math"]))
    pulled = repository.pull("hf://org/math", endpoint=hub.url)
    assert pulled.branch == "math"
    assert pulled.base == "base", "found by ranges of the remote weights"
    added = repository.add(family["math"], "added", base="base")
    assert pulled.committed.manifest == added.committed.manifest
    assert added.committed.summary.new_blocks == 0
    statistics = repository._repo.statistics(
        repository._repo.commit(repository._repo.tip("base")).manifest, added.committed.manifest
    )
    assert statistics is not None


def test_a_pull_that_finds_nothing_new_reads_no_weights(
    hub: TestHub, repository: Repository, family: dict[str, Path]
) -> None:
    hub.put("org/base", files_of(family["base"]))
    first = repository.pull("hf://org/base", branch="base", endpoint=hub.url).as_json()
    hub.sent_bytes = 0
    again = repository.pull("base", endpoint=hub.url).as_json()
    assert hub.sent_bytes == 0
    done = {"new": False, "new_blocks": 0, "stored_bytes": 0, "received_bytes": 0}
    assert again == {**first, **done, "seconds": again["seconds"]}, "what the branch has is said as by an add"


def test_only_changed_files_are_transferred(
    hub: TestHub, repository: Repository, family: dict[str, Path], tmp_path: Path
) -> None:
    files = files_of(family["base"])
    hub.put("org/base", files)
    repository.pull("hf://org/base", branch="base", endpoint=hub.url)
    changed = {**files, "config.json": b'{"changed": true}'}
    hub.put("org/base", changed)
    plan = repository.look("base", endpoint=hub.url)
    assert [file.path for file in plan.lacking] == ["config.json"]
    hub.sent_bytes = 0
    repository.pull("base", endpoint=hub.url)
    assert hub.sent_bytes == len(changed["config.json"])
    assert checked_out(repository, "base", tmp_path / "out") == changed


def test_include_and_exclude(hub: TestHub, repository: Repository, family: dict[str, Path]) -> None:
    files = {**files_of(family["base"]), "pytorch_model.bin": b"pickle" * 100, "notes/a.md": b"x"}
    hub.put("org/base", files)
    repository.pull("hf://org/base", endpoint=hub.url, exclude=["*.bin", "notes/*"])
    listed = {entry.path for entry in repository.ls("base").files}
    assert listed == set(files_of(family["base"]))
    for filters in ({"include": ["*.gguf"]}, {"exclude": ["*.safetensors"]}):
        flag = "--" + next(iter(filters))
        with pytest.raises(UsageError, match=f"{flag} .* leaves no weights") as caught:
            repository.pull("hf://org/base", endpoint=hub.url, branch="other", **filters)
        assert "model-00001-of-00002.safetensors" in (caught.value.hint or "")
    hub.put("org/base", {**files, "config.json": b"{}"})
    repository.pull("base", endpoint=hub.url)
    assert {entry.path for entry in repository.ls("base").files} == listed, "the filters are remembered"


def test_a_model_goes_on_its_own_branch_unless_told(
    hub: TestHub, repository: Repository, family: dict[str, Path]
) -> None:
    for name in ("org/base", "other/base"):
        hub.put(name, files_of(family["base"]))
    hub.put("org/math", files_of(family["math"]))
    repository.add(family["math"], "math")
    repository.pull("hf://org/base", endpoint=hub.url)
    repository.pull("hf://org/base@main", endpoint=hub.url)
    with pytest.raises(UsageError, match="branch base holds hf://org/base"):
        repository.pull("hf://other/base", endpoint=hub.url)
    with pytest.raises(UsageError, match="branch math was not pulled"):
        repository.pull("hf://org/math", endpoint=hub.url)
    repository.pull("hf://other/base", branch="base", endpoint=hub.url)
    hub.sent_bytes = 0
    repository.pull("hf://org/math", branch="mine", endpoint=hub.url)
    assert hub.sent_bytes == 0, "the branch math has these files"


def test_pages_redirects_and_tokens(
    repository: Repository,
    family: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = files_of(family["base"])
    with TestHub() as storage, TestHub(token="secret") as hub:
        monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: "secret")
        storage.shelf = hub.shelf
        hub.redirect_to = storage.url.replace("127.0.0.1", "localhost")
        hub.put("org/base", files)
        repository.pull("hf://org/base", endpoint=hub.url)
        assert storage.leaked_tokens == 0
        assert storage.sent_bytes > 0
    assert checked_out(repository, "base", tmp_path / "out") == files


def test_adapters_pull_as_they_are(hub: TestHub, repository: Repository) -> None:
    tensors = {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight": array
        for side, array in zip("AB", list(base_tensors().values())[1:3], strict=True)
    }
    hub.put(
        "org/adapter",
        {
            "adapter_config.json": b'{"peft_type": "LORA", "r": 64, "lora_alpha": 64}',
            "adapter_model.safetensors": safetensors_bytes(tensors),
        },
    )
    repository.pull("hf://org/adapter", endpoint=hub.url)
    assert repository.show("adapter").info.commit.kind == "lora"


def test_a_model_with_only_pickled_weights_is_refused(hub: TestHub, repository: Repository) -> None:
    hub.put("org/old", {"pytorch_model.bin": b"\x80\x02", "config.json": b"{}"})
    with pytest.raises(IncompatibleError, match=r"pytorch_model\.bin"):
        repository.pull("hf://org/old", endpoint=hub.url)


@pytest.mark.parametrize("what", ["hf://", "hf://a/b/c", "hf://../x", "hf://org/name@"])
def test_an_address_that_cannot_be_meant(repository: Repository, what: str) -> None:
    with pytest.raises(UsageError, match="does not name a model"):
        repository.pull(what)


@pytest.mark.parametrize(
    ("what", "meant"),
    [
        ("hf:/org/name", "write hf://org/name"),
        ("https://huggingface.co/org/name", "write hf://org/name"),
        ("https://huggingface.co/org/name/tree/v2", "write hf://org/name@v2"),
        ("https://example.org/x", "hf://ORG/NAME"),
        ("org/name", "hf://org/name"),
    ],
)
def test_what_was_meant_is_said(repository: Repository, what: str, meant: str) -> None:
    with pytest.raises((UsageError, NotFoundError)) as caught:
        repository.pull(what)
    assert meant in (caught.value.hint or "")


def test_unknown_models_revisions_and_branches(
    hub: TestHub, repository: Repository, family: dict[str, Path]
) -> None:
    hub.put("org/base", files_of(family["base"]))
    with pytest.raises(RemoteError, match="no such model"):
        repository.pull("hf://org/nothing", endpoint=hub.url)
    with pytest.raises(RemoteError, match="no such revision"):
        repository.pull("hf://org/base@v9", endpoint=hub.url)
    with pytest.raises(NotFoundError):
        repository.pull("nothing", endpoint=hub.url)
    repository.add(family["base"], "local")
    with pytest.raises(UsageError, match="no origin"):
        repository.pull("local", endpoint=hub.url)


def test_offline_mode_is_respected(tmp_path: Path) -> None:
    Repository.init(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "mpstore.cli.main", "pull", "hf://org/base"],
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert "HF_HUB_OFFLINE" in done.stderr


def test_files_download_in_parallel_and_dedup(hub: TestHub, repository: Repository, tmp_path: Path) -> None:
    base = base_tensors()
    directory = write_checkpoint(tmp_path / "sharded", fine_tuned(base, 3), shards=5)
    files = files_of(directory)
    hub.put("org/sharded", files)
    repository.pull("hf://org/sharded", endpoint=hub.url)
    for entry in repository.ls("sharded").files:
        assert entry.sha256 == hashlib.sha256(files[entry.path]).digest()
