"""Pushing: streamed from the store, nothing sent twice, no update lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.conftest import files_of
from hub.server import TestHub
from mpstore.api import Repository
from mpstore.errors import ConflictError, RemoteError
from mpstore.remotes.endpoint import Refusal


@pytest.fixture
def filled(repository: Repository, family: dict[str, Path]) -> Repository:
    repository.add(family["base"], "base")
    repository.add(family["math"], "math", base="base")
    return repository


def on_hub(hub: TestHub, repo_id: str, branch: str = "main") -> dict[str, bytes]:
    files = hub.shelf.models[repo_id].commits[hub.shelf.commit_of(repo_id, branch)]
    return {path: data for path, data in files.items() if path != ".gitattributes"}


def test_a_push_makes_the_model_hold_exactly_these_files(
    hub: TestHub, filled: Repository, family: dict[str, Path]
) -> None:
    pushed = filled.push("math", "hf://me/math", private=True, endpoint=hub.url)
    assert on_hub(hub, "me/math") == files_of(family["math"])
    assert hub.private["me/math"]
    assert pushed.remote_commit == hub.shelf.commit_of("me/math", "main")
    filled.push("base", "hf://me/math", endpoint=hub.url)
    assert on_hub(hub, "me/math") == files_of(family["base"])


def test_what_the_hub_has_is_not_sent(hub: TestHub, filled: Repository, family: dict[str, Path]) -> None:
    filled.push("base", "hf://me/one", endpoint=hub.url)
    hub.uploaded_bytes = 0
    filled.push("base", "hf://me/two", endpoint=hub.url)
    assert on_hub(hub, "me/two") == files_of(family["base"])
    assert hub.uploaded_bytes == 0, "LFS files are known by their SHA-256"
    commits = hub.commits
    again = filled.push("base", "hf://me/two", endpoint=hub.url)
    assert not again.new
    assert hub.commits == commits, "nothing new makes no commit"


def test_a_merge_goes_with_its_model_card(hub: TestHub, filled: Repository) -> None:
    words = {"base": "base", "experts": [("math", {"weight": 0.5})], "operator": "task_arithmetic"}
    filled.merge("merged", **words)
    filled.push("merged", "hf://me/merged", message="half of math", endpoint=hub.url)
    card = on_hub(hub, "me/merged")["README.md"].decode()
    assert card.startswith("---\nbase_model:")
    assert "task_arithmetic" in card
    assert ("POST", "/api/validate-yaml", None) in hub.requests


@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_push_says_why_and_leaves_no_doubt(hub: TestHub, filled: Repository, status: int) -> None:
    filled.push("base", "hf://me/model", endpoint=hub.url)

    def refuse() -> None:
        raise Refusal(status, "you may not")

    hub.before_commit = refuse
    with pytest.raises(RemoteError, match="you may not") as caught:
        filled.push("math", "hf://me/model", endpoint=hub.url)
    assert "not known" not in (caught.value.hint or "")


def test_a_branch_of_the_hub(hub: TestHub, filled: Repository, family: dict[str, Path]) -> None:
    filled.push("base", "hf://me/model", endpoint=hub.url)
    filled.push("math", "hf://me/model", branch="tuned", endpoint=hub.url)
    assert on_hub(hub, "me/model") == files_of(family["base"])
    assert on_hub(hub, "me/model", "tuned") == files_of(family["math"])


def test_a_lost_race_is_said_with_both_hashes_and_changes_nothing(hub: TestHub, filled: Repository) -> None:
    filled.push("base", "hf://me/model", endpoint=hub.url)
    before = hub.shelf.commit_of("me/model", "main")
    theirs = {"README.md": b"mine"}

    def race() -> None:
        hub.before_commit = lambda: None
        hub.put("me/model", theirs)

    hub.before_commit = race
    with pytest.raises(ConflictError) as caught:
        filled.push("math", "hf://me/model", endpoint=hub.url)
    now = hub.shelf.commit_of("me/model", "main")
    assert before in caught.value.message
    assert now in caught.value.message
    assert caught.value.exit_code == 5
    assert on_hub(hub, "me/model") == theirs


def test_a_commit_is_never_retried_blindly(hub: TestHub, filled: Repository) -> None:
    filled.push("base", "hf://me/model", endpoint=hub.url)
    asked = 0

    def fail() -> None:
        nonlocal asked
        asked += 1
        raise ConnectionResetError

    hub.before_commit = fail
    with pytest.raises(RemoteError) as caught:
        filled.push("math", "hf://me/model", endpoint=hub.url)
    assert asked == 1
    assert "again" in (caught.value.hint or "")
