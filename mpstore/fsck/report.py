"""What fsck found and did, as plain values.

Relies on nothing but its neighbours' values. Promises: the exit code follows from `damage_left` alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from mpstore.fsck.checks import Damage
from mpstore.fsck.touched import Touched

DAMAGED_EXIT_CODE: Final = 4


@dataclass(frozen=True)
class FsckReport:
    """damage: all that was found; touched: what of refs, commits and tensors it reaches; repaired: what was
    done, in words; damage_left: what remains after that (`damage` itself where nothing was repaired); notes:
    what is not as it should be and harms nothing (a pack whose index is to be rebuilt)."""

    packs: int
    objects: int
    reachable_objects: int
    read_objects: int
    read_bytes: int
    damage: tuple[Damage, ...]
    touched: tuple[Touched, ...]
    repaired: tuple[str, ...] = ()
    damage_left: tuple[Damage, ...] = ()
    notes: tuple[Damage, ...] = ()
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return DAMAGED_EXIT_CODE if self.damage_left else 0

    def as_json(self) -> dict[str, object]:
        """Keys of `mp fsck --json`."""
        return {**asdict(self), "ok": not self.damage_left}
