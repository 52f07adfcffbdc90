"""The surface of `mp`: help, options, errors, exit codes, pipes. No repository content is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command, Inline, clean_environment, in_shell

from mpstore.cli.table import VERBS


@pytest.fixture
def bare(tmp_path: Path) -> Command:
    """`mp` where there is no repository, in this process."""
    return Inline(tmp_path)


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """The same as a process: where importing, the environment or the end of the process is what is tried."""
    return Command(tmp_path)


def test_help_names_every_verb(bare: Command) -> None:
    text = bare("--help").out
    for verb in VERBS:
        assert re.search(rf"^  {verb.name} ", text, re.MULTILINE), verb.name


def test_every_verb_has_help_json_and_quiet() -> None:
    from mpstore.cli.main import cli

    for verb in VERBS:
        command = cli.get_command(None, verb.name)  # type: ignore[arg-type]
        assert command is not None
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {"--json", "-q", "-C"} <= flags, verb.name
        assert command.help, verb.name


def test_help_of_a_verb_is_no_error_without_a_repository(bare: Command) -> None:
    assert "Usage: mp merge" in bare("merge", "--help").out


def test_version(bare: Command, process: Command) -> None:
    assert re.fullmatch(r"mp \d+\.\d+\.\d+\n", process("--version").out)
    assert set(bare.json("--version")) == {"version"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["frobnicate"], 2, "no command 'mp frobnicate'"),
        (["mrege"], 2, "did you mean 'mp merge'"),
        (["log", "--oneliner"], 2, "--oneline"),
        (["add"], 2, "PATH..."),
        (["log", "-n", "many"], 2, "-n"),
        (["log"], 3, "mp init"),
        (["-C", "nowhere", "log"], 3, "nowhere"),
        (["completion"], 2, "bash, zsh, fish"),
        (["branch", "-d"], 2, "which branch"),
        (["completion", "tcsh"], 2, "tcsh"),
    ],
)
def test_errors_name_what_is_wrong_and_what_to_do(
    bare: Command, words: list[str], code: int, said: str
) -> None:
    ended = bare(*words, code=code)
    assert ended.out == ""
    first, *rest = ended.err.splitlines()
    assert first.startswith("mp: error: ")
    assert all(line.startswith("mp: hint: ") for line in rest)
    assert said in ended.err


@pytest.mark.parametrize("words", [["log"], ["frobnicate"], ["log", "--oneliner"]])
def test_errors_are_one_json_document_on_standard_error(bare: Command, words: list[str]) -> None:
    ended = bare(*words, "--json", code=None)
    assert ended.out == ""
    assert ended.error["exit_code"] == ended.code
    assert set(ended.error) == {"error", "message", "hint", "exit_code"}


def test_json_option_may_stand_before_the_verb(bare: Command) -> None:
    bare("init")
    assert bare("--json", "branch").document == {"branches": []}


def test_init_makes_a_repository_once(bare: Command) -> None:
    made = bare.json("init", "family", "--block-elements", "4096", "--compression", "fast")
    assert made["repository"] == str(bare.directory / "family" / ".mp")
    assert (made["block_elements"], made["compression"]) == (4096, "fast")
    assert "exists" in bare("init", "family", code=2).err


def test_init_refuses_a_block_that_is_no_size(bare: Command) -> None:
    for blocks in ("0", "-1", "100", "x"):
        assert "block" in bare("init", "--block-elements", blocks, code=2).err
    assert not (bare.directory / ".mp" / "config").exists()


def test_repository_is_found_upward_and_by_option_and_environment(bare: Command) -> None:
    bare("init", "-q")
    deep = bare.directory / "a" / "b"
    deep.mkdir(parents=True)
    elsewhere = Inline(Path("/"))
    assert Inline(deep)("branch").out == ""
    Command(deep)("branch", MP_DIR=str(bare.directory))
    elsewhere("-C", bare.directory, "branch")
    elsewhere("branch", "-C", bare.directory)
    elsewhere("branch", MP_DIR=str(bare.directory / ".mp"))
    elsewhere("branch", MP_DIR=str(bare.directory))
    for named in ("x", "y/.mp"):
        elsewhere("init", "-q", MP_DIR=str(bare.directory / named))
        elsewhere("branch", MP_DIR=str(bare.directory / named))
    assert "MP_DIR" in elsewhere("branch", code=3).err
    assert "MP_DIR: no repository" in elsewhere("branch", code=3, MP_DIR="/nowhere").err


def test_hooks_lists_samples(bare: Command) -> None:
    bare("init")
    states = {hook["event"]: hook["state"] for hook in bare.json("hooks")["hooks"]}
    assert states["pre-merge"] == "sample"
    assert "pre-merge" in bare("hooks").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_for_mp(bare: Command, shell: str) -> None:
    assert "_MP_COMPLETE" in bare("completion", shell).out


def test_completion_completes_verbs_and_options(process: Command) -> None:
    asked = {"_MP_COMPLETE": "bash_complete", "COMP_WORDS": "mp me", "COMP_CWORD": "1"}
    assert "plain,merge" in process(code=None, **asked).out
    asked = {"_MP_COMPLETE": "bash_complete", "COMP_WORDS": "mp merge --bud", "COMP_CWORD": "2"}
    assert "plain,--budget" in process(code=None, **asked).out


def test_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "mpstore.cli", "completion", "bash"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait() in (0, 141)
    assert said == b""


def test_a_working_directory_that_is_gone_is_named(process: Command) -> None:
    process("init")
    gone = "mkdir gone && cd gone && rmdir ../gone && mp"
    for words, code, said in (
        ("log", 3, "the working directory is gone"),
        (f"-C {process.directory} log", 0, ""),
    ):
        done = in_shell(process.directory, f"{gone} {words}")
        assert done.code == code
        assert said in done.err


def test_closed_streams_are_no_error_of_ours(process: Command) -> None:
    process("init")
    for closing, code in ((">&-", 0), ("2>&-", 0), ("<&-", 0), (">&- 2>&- <&-", 0)):
        done = in_shell(process.directory, f"mp branch {closing}")
        assert (done.code, done.err) == (code, ""), closing


def test_json_never_says_nan() -> None:
    from mpstore.cli.session import to_json

    text = to_json({"bound": float("nan"), "id": b"\x01", "path": Path("/x"), "many": (1, 2.5, None, True)})
    assert json.loads(text) == {"bound": None, "id": "01", "path": "/x", "many": [1, 2.5, None, True]}
