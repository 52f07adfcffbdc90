"""What every test shares: nothing of the developer's environment."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from mpstore import kernels

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
