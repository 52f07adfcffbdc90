"""Every check of the project, in one place: formatting, lint, types, the import floors, the tests.

README's second command and `.ci/run` end here. Prints a line for each check; the exit status is the number
of checks that failed. Further arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sys.executable).parent
WORKERS = (os.cpu_count() or 1) + 1  # tests wait, too: for disks, sockets and each other
SOURCES = ["mpstore", "tests", "examples"]
# Tests start hundreds of processes: each would compile every module again where nothing may be kept.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Check(NamedTuple):
    """A check that runs; its output is told when it is over."""

    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    began: float

    def failed(self) -> bool:
        """Wait for it and tell."""
        code = self.process.wait()
        self.output.seek(0)
        print(f"== {self.name}", flush=True)
        sys.stdout.buffer.write(self.output.read())
        return told(code, self.began)


def started(command: Sequence[object]) -> Check:
    output = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the check is over
    words = [str(word) for word in command]
    process = subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
    return Check(name_of(command), process, output, time.monotonic())


def name_of(command: Sequence[object]) -> str:
    return f"{Path(str(command[0])).name} {' '.join(map(str, command[1:]))}"


def told(code: int, began: float) -> bool:
    print(f"== {'ok' if code == 0 else f'FAILED ({code})'}: {time.monotonic() - began:.0f} s", flush=True)
    return code != 0


def main(pytest_arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    at_once = [
        # Finds all tests once, so that the workers find them compiled, while others have the other core.
        started([*pytest, "--collect-only", "-qqq", "-p", "no:xdist", *pytest_arguments]),
        started([SCRIPTS / "mypy"]),
    ]
    in_turn = [
        [SCRIPTS / "ruff", "format", "--check", *SOURCES],
        [SCRIPTS / "ruff", "check", *SOURCES],
        [SCRIPTS / "lint-imports"],
    ]
    failed = sum(started(command).failed() for command in in_turn) + sum(check.failed() for check in at_once)
    tests = [*pytest, "-n", str(WORKERS), *pytest_arguments]
    print(f"== {name_of(tests)}", flush=True)
    began = time.monotonic()
    return failed + told(subprocess.run(tests, cwd=ROOT, env=ENVIRONMENT, check=False).returncode, began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
