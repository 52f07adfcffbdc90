"""Hooks: real executables, real processes."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from pathlib import Path

import pytest

from mpstore.errors import HookError
from mpstore.hooks import EVENTS, Hooks, install_samples
from tests.warned import Warned

SAMPLES = Path(__file__).parent.parent / "hooks"


@pytest.fixture
def mp_dir(tmp_path: Path) -> Path:
    for name in ("hooks", "tmp"):
        (tmp_path / ".mp" / name).mkdir(parents=True)
    return tmp_path / ".mp"


def put(mp_dir: Path, event: str, script: str, executable: bool = True) -> Path:
    path = mp_dir / "hooks" / event
    path.write_text(script)
    path.chmod(0o755 if executable else 0o644)
    return path


def test_no_hook_is_no_event(mp_dir: Path) -> None:
    Hooks(mp_dir).run("pre-add", {})


def test_hook_gets_json_and_works_beside_the_repository(mp_dir: Path) -> None:
    put(mp_dir, "post-commit", "#!/bin/sh\ncat > seen.json\npwd > where\n")
    Hooks(mp_dir).run("post-commit", {"branch": "base", "stored_bytes": 7})
    seen = json.loads((mp_dir.parent / "seen.json").read_text())
    expected = {"event": "post-commit", "repository": str(mp_dir), "branch": "base", "stored_bytes": 7}
    assert seen == expected
    assert (mp_dir.parent / "where").read_text().strip() == str(mp_dir.parent)


def test_what_json_cannot_say_is_null(mp_dir: Path) -> None:
    put(mp_dir, "post-merge", "#!/bin/sh\ncat > seen.json\n")
    Hooks(mp_dir).run(
        "post-merge", {"bound": float("inf"), "experts": [{"params": {"density": float("nan")}}]}
    )
    text = (mp_dir.parent / "seen.json").read_text()
    seen = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert seen["bound"] is None
    assert seen["experts"] == [{"params": {"density": None}}]


def test_failing_pre_hook_raises_with_what_it_said(mp_dir: Path) -> None:
    path = put(mp_dir, "pre-merge", "#!/bin/sh\necho 'too much' >&2\nexit 3\n")
    with pytest.raises(HookError, match="too much") as caught:
        Hooks(mp_dir).run("pre-merge", {})
    assert str(path) in (caught.value.hint or "")


def test_silent_failure_names_the_exit_status(mp_dir: Path) -> None:
    put(mp_dir, "pre-merge", "#!/bin/sh\nexit 3\n")
    with pytest.raises(HookError, match="exit status 3"):
        Hooks(mp_dir).run("pre-merge", {})


def test_failing_post_hook_only_warns(mp_dir: Path) -> None:
    put(mp_dir, "post-merge", "#!/bin/sh\nexit 1\n")
    heard = Warned()
    Hooks(mp_dir, heard).run("post-merge", {})
    assert len(heard.said) == 1
    assert "post-merge" in heard.said[0]


def test_what_a_successful_hook_prints_is_passed_on(mp_dir: Path) -> None:
    put(mp_dir, "post-merge", "#!/bin/sh\necho one\necho two\n")
    said: list[str] = []
    Hooks(mp_dir, say=said.append).run("post-merge", {})
    assert said == ["post-merge: one", "post-merge: two"]


def test_not_executable_is_ignored_with_a_hint(mp_dir: Path) -> None:
    path = put(mp_dir, "pre-add", "#!/bin/sh\nexit 1\n", executable=False)
    heard = Warned()
    Hooks(mp_dir, heard).run("pre-add", {})
    assert f"chmod +x {path}" in heard.said[0]


def test_hook_that_hangs_is_ended_with_its_children(mp_dir: Path) -> None:
    put(mp_dir, "pre-add", "#!/bin/sh\nsleep 60 &\necho $! > child\nsleep 60\n")
    began = time.monotonic()
    with pytest.raises(HookError, match=r"longer than 0\.5 seconds"):
        Hooks(mp_dir, timeout_seconds=0.5).run("pre-add", {})
    assert time.monotonic() - began < 30
    child = (mp_dir.parent / "child").read_text().strip()
    for _ in range(100):
        status = Path(f"/proc/{child}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.05)
    pytest.fail("the hook's child lives on")


def test_hook_that_cannot_start_refuses(mp_dir: Path) -> None:
    put(mp_dir, "pre-add", "no interpreter line\n")
    with pytest.raises(HookError, match="cannot be started"):
        Hooks(mp_dir).run("pre-add", {})


def test_hook_may_ignore_its_input(mp_dir: Path) -> None:
    put(mp_dir, "pre-add", "#!/bin/sh\nexec <&-\nexit 0\n")
    Hooks(mp_dir).run("pre-add", {"filler": "x" * 1_000_000})


def test_statuses_tell_active_from_sample_from_unknown(mp_dir: Path) -> None:
    install_samples(mp_dir)
    put(mp_dir, "pre-merge", "#!/bin/sh\n")
    put(mp_dir, "pre-add", "#!/bin/sh\n", executable=False)
    put(mp_dir, "pre-lunch", "#!/bin/sh\n")
    states = {status.event: status.state for status in Hooks(mp_dir).statuses()}
    assert states["pre-merge"] == "active"
    assert states["pre-add"] == "not executable"
    assert states["post-commit"] == "sample"
    assert states["post-push"] == "absent"
    assert states["pre-lunch"] == "unknown"


def test_samples_are_installed_executable_and_switched_off(mp_dir: Path) -> None:
    install_samples(mp_dir)
    installed = {path.name for path in (mp_dir / "hooks").iterdir()}
    assert installed == {f"{path.name}.sample" for path in SAMPLES.iterdir()}
    for path in (mp_dir / "hooks").iterdir():
        assert path.stat().st_mode & stat.S_IXUSR
    assert list((mp_dir / "tmp").iterdir()) == []


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir()))
def test_sample_has_a_known_event_and_a_purpose(sample: str) -> None:
    assert sample in EVENTS
    lines = (SAMPLES / sample).read_text().splitlines()
    assert lines[0].startswith("#!")
    assert lines[1].startswith("# ")
    assert lines[1].endswith(".")


@pytest.mark.parametrize(("planned", "code"), [(2 * 1024**3, 0), (2 * 1024**3 + 1, 1)])
def test_pre_merge_sample_refuses_above_its_limit(planned: int, code: int) -> None:
    document = json.dumps({"planned_bytes": planned})
    ended = subprocess.run(
        [SAMPLES / "pre-merge"], input=document, text=True, capture_output=True, check=False
    )
    assert ended.returncode == code
    assert (str(planned) in ended.stderr) == bool(code)
