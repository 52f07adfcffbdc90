"""`mp remote`: what was pulled, how much of it, and what the Hub has that is new."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Inline

from hub.conftest import Shell, files_of
from hub.server import TestHub
from mpstore.api import Repository


@pytest.fixture
def mp(tmp_path: Path, hub: TestHub, family: dict[str, Path]) -> Shell:
    Repository.init(tmp_path / "work", block_elements=512)
    for name, directory in family.items():
        hub.put(f"org/{name}", files_of(directory))
    return Shell(tmp_path / "work")


def said(tmp_path: Path, *words: str) -> dict[str, str]:
    lines = Inline(tmp_path / "work")("remote", *words).out.splitlines()
    return {line.split()[0]: line for line in lines}


def test_the_branches_and_what_is_new(
    mp: Shell, hub: TestHub, family: dict[str, Path], tmp_path: Path
) -> None:
    assert "no branch was pulled" in Inline(tmp_path / "work")("remote").out
    mp("pull", "hf://org/base", "--exclude", "*.json")
    mp("pull", "hf://org/math", "--branch", "math")
    mp("plan", "--base", "base", "--expert", "hf://org/code", "--op", "linear")
    asked = len(hub.requests)
    lines = said(tmp_path)
    assert len(hub.requests) == asked
    assert "without *.json" in lines["base"]
    assert "partial" in lines["hub/org/code"]
    hub.put("org/math", {**files_of(family["math"]), "config.json": b"{}"})
    del hub.shelf.models["org/code"]
    lines = said(tmp_path, "--look")
    assert "nothing new" in lines["base"]
    assert "would fetch 1 file of 2 B, now at" in lines["math"]
    assert "no such model" in lines["hub/org/code"], "one that cannot be asked hides no other"
    (math,) = [one for one in mp("remote", "--look")["remotes"] if one["branch"] == "math"]
    assert (math["current"], math["lacking_files"], math["lacking_bytes"]) == (False, 1, 2)
    mp("pull", "math")
    assert "nothing new" in said(tmp_path, "--look")["math"]
