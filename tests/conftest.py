"""What every test shares: nothing of the developer's environment."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mpstore import kernels

settings.register_profile("quick", max_examples=50)
settings.load_profile("quick")

MEMORY = "/dev/shm"
MEMORY_BYTES = 4 << 30  # a run takes a quarter of that
DISK = tempfile.gettempdir()


def pytest_configure(config: pytest.Config) -> None:
    """Repositories of most tests lie in memory, where there is room: a tenth of a run was waiting for a disk
    to forget files. Whoever names a directory (--basetemp, TMPDIR) has it."""
    named = config.getoption("basetemp") or "TMPDIR" in os.environ
    if not named and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        tempfile.tempdir = MEMORY


def pytest_collection_finish() -> None:
    """Thousands of tests stay where they are: looking through them for garbage each time is in vain."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    if request.node.get_closest_marker("disk") is None:
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(prefix="mp-test-", dir=DISK) as directory:
            yield Path(directory)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: commands would inherit deafness to Ctrl-C, which tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MP_DIR", "MP_AUTHOR", "MP_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _kernels_as_found() -> Iterator[None]:
    """Whatever a test selects, the next one has the kernels that everybody has."""
    yield
    kernels.select("auto")
