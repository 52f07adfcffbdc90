"""What every test shares: nothing of the developer's environment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MP_DIR", "MP_AUTHOR", "MP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
