"""How much memory there is."""

from __future__ import annotations

import os
from pathlib import Path

from mpstore.heap import physical_bytes


def test_a_container_has_what_its_group_leaves_of_the_machine(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [tmp_path / name for name in ("unlimited", "small", "huge")]
    for path, text in zip(limits, ("max\n", "123456789\n", f"{1 << 63}\n"), strict=True):
        path.write_text(text)
    assert physical_bytes([str(tmp_path / "none"), str(limits[0])]) == machine
    assert physical_bytes([str(limits[2])]) == machine
    assert physical_bytes([str(path) for path in limits]) == 123456789
    assert 0 < physical_bytes() <= machine
