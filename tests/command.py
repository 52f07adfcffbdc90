"""Runs `mp` as a user does: a real process, real exit codes.

Relies on the installed package. Promises: no environment of the developer reaches the command.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpstore.cli.main import main

ROOT = Path(__file__).parent.parent
MP = (sys.executable, "-m", "mpstore.cli")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON document on standard error."""
        found: dict[str, Any] = json.loads(self.err)
        return found


@dataclass(frozen=True)
class Command:
    """`mp` in a directory."""

    directory: Path

    def __call__(self, *words: str | Path, code: int | None = 0, **environment: str) -> Ended:
        """Run and check the exit code; None: any will do."""
        ended = self.run([str(word) for word in words], environment)
        if code is not None:
            assert ended.code == code, (
                f"mp {' '.join(ended.words)}: exit {ended.code}\n{ended.out}\n{ended.err}"
            )
            assert "internal error" not in ended.err
            assert "Traceback" not in ended.err
        return ended

    def json(self, *words: str | Path, code: int = 0) -> Any:
        """Run with `--json` and parse what it answers."""
        return self(*words, "--json", code=code).document

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
        return replace(process(self.directory, [*MP, *words], environment), words=tuple(words))


@dataclass(frozen=True)
class Inline(Command):
    """The same in this process, where starting a new one for each command would take the tests' time."""

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        on_terminate = signal.getsignal(signal.SIGTERM)
        with (
            contextlib.chdir(self.directory),
            only_environment(clean_environment(environment)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main(list(words))
            except SystemExit as ended:
                code = ended.code
            finally:
                signal.signal(signal.SIGTERM, on_terminate)
        assert isinstance(code, int)
        return Ended(tuple(words), code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def only_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Have these variables and no others, for a while."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command sees: nothing of MP_*, and the working copy first."""
    dropped = ("MP_", "PYTHONDONTWRITEBYTECODE")  # the second makes every process compile every module
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(ROOT), "MP_AUTHOR": "tester", **(extra or {})}


def process(directory: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
    """Run any command, as one sees it that is started by itself."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=clean_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Ended(tuple(command), done.returncode, done.stdout, done.stderr)


def in_shell(directory: Path, script: str) -> Ended:
    """Run a line of shell in which `mp` stands for this working copy's."""
    return process(directory, ["sh", "-c", f'mp() {{ {" ".join(MP)} "$@"; }}; {script}'])
