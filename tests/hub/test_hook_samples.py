"""Hooks around the Hub's verbs, and every shipped sample on every event that it is for, by real commands."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from command import Ended, Inline

from hub.conftest import files_of
from hub.server import TestHub
from mpstore.api import Repository

SAMPLES = sorted(path.name for path in (Path(__file__).parents[2] / "mpstore" / "hook_samples").iterdir())
RESERVE = "RESERVE_BYTES = 10 * 1024**3"


@pytest.fixture
def mp(tmp_path: Path, hub: TestHub, family: dict[str, Path]) -> Inline:
    """A repository with base and math, and the Hub has a model of each."""
    work = Repository.init(tmp_path / "work", block_elements=512)
    work.add(family["base"], "base")
    work.add(family["math"], "math", base="base")
    for name in ("code", "math"):
        hub.put(f"org/{name}", files_of(family[name]))
    return Inline(tmp_path / "work")


def put(mp: Inline, event: str, script: str) -> None:
    path = mp.directory / ".mp" / "hooks" / event
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def heard(mp: Inline, *events: str) -> None:
    """Have the documents of these events written down."""
    for event in events:
        put(mp, event, f"cat >> {event}.json")


def document(mp: Inline, event: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((mp.directory / f"{event}.json").read_text())
    return found


def test_a_pull_is_followed_by_its_hooks(mp: Inline) -> None:
    heard(mp, "pre-pull", "post-pull", "post-commit")
    pulled = mp.json("pull", "hf://org/code")
    assert document(mp, "pre-pull")["model"] == "hf://org/code"
    assert document(mp, "post-pull")["commit"] == pulled["commit"]
    assert document(mp, "post-commit")["verb"] == "pull"
    mp("pull", "code")
    assert document(mp, "post-pull"), "once: nothing new is no commit, and no event"


def test_a_push_is_followed_by_its_hook(mp: Inline) -> None:
    heard(mp, "pre-push", "post-push")
    pushed = mp.json("push", "math", "hf://me/math", "--branch", "tuned")
    before = document(mp, "pre-push")
    assert (before["revision"], before["target"], before["branch"]) == ("math", "hf://me/math", "tuned")
    assert document(mp, "post-push")["remote_commit"] == pushed["remote_commit"]
    (mp.directory / ".mp" / "hooks" / "pre-push").unlink()
    assert not mp.json("push", "math", "hf://me/math", "--branch", "tuned")["new"]
    assert document(mp, "post-push"), "once: nothing was committed the second time"


def switch_on(mp: Inline) -> None:
    """Every sample, and what ran is written down."""
    hooks = mp.directory / ".mp" / "hooks"
    held_back = hooks / "pre-checkout.sample"
    text = held_back.read_text()
    assert RESERVE in text
    held_back.write_text(text.replace(RESERVE, "RESERVE_BYTES = 0"))  # this machine's disk is as it is
    for sample in SAMPLES:
        put(mp, sample, f"echo {sample} >> ran\nexec .mp/hooks/{sample}.sample")


def ran(mp: Inline) -> list[str]:
    """The samples that ran since this was asked last."""
    log = mp.directory / "ran"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def run(mp: Inline, *words: str | Path, code: int = 0, **environment: str) -> Ended:
    """A command none of whose hooks fails by accident."""
    ended = mp(*words, code=code, **environment)
    assert "failed" not in ended.err
    assert "Error" not in ended.err
    return ended


def test_every_sample_passes_where_it_should(mp: Inline, family: dict[str, Path], tmp_path: Path) -> None:
    switch_on(mp)
    merge = ["merge", "--base", "base", "--op", "task_arithmetic"]
    seen: list[list[str]] = []
    for words in (
        ["add", family["code"], "--branch", "code", "-m", "trained by us"],
        [*merge, "--expert", "math:weight=1", "--branch", "merged"],
        ["pull", "hf://org/math", "--branch", "pulled"],
        ["push", "merged", "hf://my-org/merged"],
        ["checkout", "merged", tmp_path / "out"],
    ):
        run(mp, *words)
        seen.append(ran(mp))
    assert seen == [
        ["pre-add", "post-commit"],
        ["pre-merge", "post-merge", "post-commit"],
        ["post-commit"],
        ["pre-push"],
        ["pre-checkout"],
    ]
    run(mp, "gc", TZ=f"NIGHT{time.gmtime().tm_hour - 3}")  # where it is three o'clock now
    assert ran(mp) == ["pre-gc"]
    assert {name for names in seen for name in names} | {"pre-gc"} == set(SAMPLES)
    lines = (mp.directory / "commits.log").read_text().splitlines()
    assert [line.split()[1:3] for line in lines] == [["add", "code"], ["merge", "merged"], ["pull", "pulled"]]


def test_a_merge_whose_error_nobody_knows_is_a_merge_to_its_samples(mp: Inline) -> None:
    """Experts that were never downloaded have no statistics: the bound is infinite, which no JSON says."""
    switch_on(mp)
    words = ["--expert", "hf://org/code:weight=1", "--op", "linear", "--budget", "40%"]
    merged = run(mp, "merge", "--base", "base", *words, "--branch", "merged")
    assert ran(mp) == ["pre-merge", "post-merge", "post-commit"]
    assert "of the error not known" in merged.err


def test_samples_refuse_in_words(mp: Inline, family: dict[str, Path]) -> None:
    switch_on(mp)
    refused = run(mp, "push", "math", "hf://elsewhere/math", code=9)
    assert "pushing to elsewhere is not allowed here; allowed: my-org" in refused.err
    assert "say where" in run(mp, "add", family["code"], code=9).err
