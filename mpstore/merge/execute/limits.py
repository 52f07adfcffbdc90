"""How much of the machine a merge may use.

Relies on nothing. Promises: plain figures, so that who only plans does not import what executes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much of the machine a merge may use: `threads` that compute, `readers` that read, `memory_bytes`
    for everything in flight (encoded and decoded blocks; the interpreter and its libraries come on top),
    `tensor_bytes` for one tensor that an operator needs whole. `flush_seconds`: how much work a killed merge
    loses at most."""

    threads: int = 2
    readers: int = 4
    memory_bytes: int = 384 << 20
    tensor_bytes: int = 4 << 30
    flush_seconds: float = 8.0
