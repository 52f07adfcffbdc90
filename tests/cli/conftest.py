"""Fixtures of the command line's tests: a repository with a base and two experts, made once and copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command, Inline
from families import Family, write_family

BLOCK_ELEMENTS = 1024


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, family: Family) -> Path:
    """A directory with a repository that holds base, math and code; not to be changed."""
    directory = tmp_path_factory.mktemp("filled")
    mp = Inline(directory)
    mp("init", "--block-elements", str(BLOCK_ELEMENTS))
    mp("add", family.base, "--branch", "base", "-m", "the base")
    for name, path in family.experts.items():
        mp("add", path, "--branch", name, "--base", "base", "-m", f"tuned for {name}")
    return directory


@pytest.fixture
def mp(tmp_path: Path, filled: Path) -> Command:
    """`mp` in a directory whose repository is a copy of `filled`'s."""
    shutil.copytree(filled / ".mp", tmp_path / "work" / ".mp")
    return Inline(tmp_path / "work")


@pytest.fixture
def empty(tmp_path: Path) -> Command:
    """`mp` in a directory with an empty repository."""
    directory = tmp_path / "empty"
    directory.mkdir()
    mp = Inline(directory)
    mp("init", "--block-elements", str(BLOCK_ELEMENTS))
    return mp


@pytest.fixture
def merge_words() -> Callable[..., list[str]]:
    """The arguments of a merge of both experts."""

    def words(operator: str = "ties", **params: float) -> list[str]:
        tail = ",".join(f"{key}={value}" for key, value in {"weight": 1.0, **params}.items())
        return ["--base", "base", "--expert", f"math:{tail}", "--expert", f"code:{tail}", "--op", operator]

    return words


@pytest.fixture
def real_mp(tmp_path: Path, filled: Path) -> Command:
    """`mp` as a process, in a directory whose repository is a copy of `filled`'s."""
    shutil.copytree(filled / ".mp", tmp_path / "process" / ".mp")
    return Command(tmp_path / "process")
