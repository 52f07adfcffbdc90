"""A Hub on loopback, a family on it, and a repository beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import Inline
from families import base_tensors, fine_tuned, write_checkpoint

import mpstore.remotes.hub
from hub.server import Files, TestHub
from mpstore.api import Repository


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are real, but short."""
    monkeypatch.setattr(mpstore.remotes.hub, "PATIENCE_SECONDS", 0.001)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestHub]:
    """It is what HF_ENDPOINT names, too: early clients (1.0) read it whatever endpoint they are given."""
    with TestHub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        yield server


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of a base and two experts."""
    root = tmp_path_factory.mktemp("family")
    base = base_tensors()
    return {
        "base": write_checkpoint(root / "base", base),
        "math": write_checkpoint(root / "math", fine_tuned(base, 1)),
        "code": write_checkpoint(root / "code", fine_tuned(base, 2)),
    }


def written(directory: Path, experts: Sequence[str]) -> dict[str, Path]:
    """A base and fine-tunes of it, by name."""
    base = base_tensors()
    made = {"base": write_checkpoint(directory / "base", base)}
    for number, name in enumerate(experts):
        made[name] = write_checkpoint(directory / name, fine_tuned(base, 10 + number))
    return made


def files_of(directory: Path) -> Files:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


class Shell:
    """`mp --json` in this process; the client's endpoint is the Hub on loopback."""

    def __init__(self, directory: Path) -> None:
        self._command = Inline(directory)

    def __call__(self, *words: object, code: int = 0) -> Any:
        ended = self._command("--json", *words, code=code)
        return json.loads(ended.out if code == 0 else ended.err)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repository", block_elements=512)
