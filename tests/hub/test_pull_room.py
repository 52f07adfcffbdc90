"""A pull keeps no copy beside the store, and its memory does not grow with the file: seen from outside."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "examples" / "bench"
ALLOWED_EXTRA_BYTES = 64 << 20


def test_the_watch_sees_what_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    disk_watch = importlib.import_module("disk_watch")
    packs, staging, cache = tmp_path / ".mp/objects/packs", tmp_path / ".mp/tmp", tmp_path / "hf"
    for directory in (packs, staging, cache):
        directory.mkdir(parents=True)
    with disk_watch.DiskWatch(tmp_path / ".mp", [cache]) as watch:

        def looked() -> None:
            seen = watch.looks
            while watch.looks < seen + 3:
                time.sleep(0.001)

        (cache / "copy").write_bytes(bytes(5000))
        looked()
        (cache / "copy").unlink()
        (staging / "pack").write_bytes(b"mpPK" + bytes(7000))
        looked()
        (staging / "pack").rename(packs / "a.pack")
    assert (watch.extra_bytes, watch.staged_bytes) == (5000, 7004)
    assert watch.over_final_bytes == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pulls_of_two_sizes(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(BENCH / "hub.py"), "--smoke", "--json", str(figures)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    small, large = json.loads(figures.read_text())["watched"]
    grown = large["raw_bytes"] - small["raw_bytes"]
    assert grown > 90_000_000
    for row in (small, large):
        assert row["looks"] > 10
        assert row["staged_pack_bytes"] > row["raw_bytes"] / 3, "the watch saw the store grow"
        assert row["extra_disk_bytes"] < ALLOWED_EXTRA_BYTES / 16
        assert row["over_final_disk_bytes"] < ALLOWED_EXTRA_BYTES / 16
    assert large["peak_memory_bytes"] - small["peak_memory_bytes"] < grown / 2
