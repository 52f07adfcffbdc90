"""How many processors this process may keep busy: in a container or under `taskset` fewer than there are.

Relies on nothing. Promises: at least 1, and no errors: what a system does not tell does not count.
"""

from __future__ import annotations

import os
from typing import Final

_CPU_MAX: Final = "/sys/fs/cgroup/cpu.max"  # of the own cgroup, as containers see it (Linux, version 2)


def count(cpu_max: str = _CPU_MAX) -> int:
    """Those that it may run on, or as many as the time that its container gets in each period amounts to."""
    affine = getattr(os, "sched_getaffinity", None)
    allowed = len(affine(0)) if affine is not None else os.cpu_count() or 1
    try:
        with open(cpu_max, encoding="ascii") as file:
            quota, period = (int(word) for word in file.read(64).split())
    except (OSError, ValueError):  # also "max 100000": no limit
        return int(allowed)
    return max(1, min(allowed, -(-quota // period))) if quota > 0 < period else int(allowed)
