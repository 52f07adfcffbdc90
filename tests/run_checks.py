"""Every check of the project, in one place: formatting, lint, types, the import floors, the tests.

README's second command and `.ci/run` end here. Prints a line for each check; the exit status is the number
of checks that failed. Further arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sys.executable).parent
WORKERS = (os.cpu_count() or 1) + 1  # tests wait, too: for disks, sockets and each other
SOURCES = ["mpstore", "tests", "examples"]


def main(pytest_arguments: list[str]) -> int:
    checks = [
        [SCRIPTS / "ruff", "format", "--check", *SOURCES],
        [SCRIPTS / "ruff", "check", *SOURCES],
        [SCRIPTS / "mypy"],
        [SCRIPTS / "lint-imports"],
        [sys.executable, "-m", "pytest", "-n", str(WORKERS), *pytest_arguments],
    ]
    failed = 0
    for check in checks:
        name = f"{Path(check[0]).name} {' '.join(map(str, check[1:]))}"
        print(f"== {name}", flush=True)
        began = time.monotonic()
        code = subprocess.run([str(word) for word in check], cwd=ROOT, check=False).returncode
        print(f"== {'ok' if code == 0 else f'FAILED ({code})'}: {time.monotonic() - began:.0f} s", flush=True)
        failed += code != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
