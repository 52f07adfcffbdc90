"""Power cuts at every operation of ref moves: what was acknowledged is there, the rest whole or not at all.

The operations are recorded once from the real code, and every disk that a cut could leave is opened anew.
Commits and gc are cut the same way in test_crash.py.
"""

from __future__ import annotations

import random
from pathlib import Path

from mpstore import files
from mpstore.files import Operation
from mpstore.records.refs import Refs
from tests.crash_disk import CrashDisk

WAYS = ("strict", "names", "random")
STEPS = [
    ("heads/a", 2, 3),
    ("heads/new/b", None, 1),
    ("heads/a", 3, None),
    ("heads/a", None, 4),
    ("heads/new/b", 1, 5),
]


def oid(number: int | None) -> bytes | None:
    return None if number is None else number.to_bytes(32, "big")


def alive(state: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: value for name, value in state.items() if value}


def test_invariant_05_ref_moves_survive_power_cuts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    refs = Refs(home)
    refs.move("heads/a", None, oid(1), "", "", time_ns=1)
    refs.move("heads/a", oid(1), oid(2), "", "", time_ns=2)
    disk = CrashDisk(home)
    recorded: list[tuple[Operation, bytes]] = []
    states: list[dict[str, bytes | None]] = [{"heads/a": oid(2)}]
    acknowledged = [0]
    files.set_observer(lambda operation: recorded.append((operation, bytes(operation.data or b""))))
    try:
        for number, (name, old, new) in enumerate(STEPS):
            refs.move(name, oid(old), oid(new), "", "", time_ns=10 + number)
            states.append({**states[-1], name: oid(new)})
            acknowledged.append(len(recorded))
            if number == 2:
                refs.prune("heads/a", 12)
    finally:
        files.set_observer(None)
    generator = random.Random(3)
    for count in range(len(recorded) + 1):
        done = sum(count >= limit for limit in acknowledged) - 1
        for way in WAYS:
            disk.crash(tmp_path / "after", way, generator)
            (tmp_path / "after" / "tmp").mkdir(exist_ok=True)
            after = Refs(tmp_path / "after")
            found = {name: ref.value for name, ref in after.values().items()}
            assert found in [alive(state) for state in states[done : done + 2]]
            if count % 15 == 0:
                after.move("heads/a", found.get("heads/a"), oid(9), "", "")
                assert after.values()["heads/a"].value == oid(9)
        if count < len(recorded):
            disk.apply(*recorded[count])
    assert len(recorded) > 50
