"""Where an object that must exist lies, while packs come and go: looking again wherever it could be.

Relies on packset and trash. Promises: what a gc has moved or put aside for a moment is not called lost; what
is lost is said after some hundredths of a second, and of many that are, only of the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from mpstore.errors import DamagedError
from mpstore.ids import ObjectId
from mpstore.store.locations import Place
from mpstore.store.packindex import as_ids
from mpstore.store.packset import PackSet
from mpstore.store.trash import restore_objects, trash_directories

_LOOKS: Final = 6
_LOOK_SECONDS: Final = 0.004  # longer with each look


class Finder:
    """Looks in packs, and in the trash of a gc. Any thread."""

    def __init__(self, packs: PackSet, warn: Callable[[str], None]) -> None:
        self._packs = packs
        self._layout = packs.layout
        self._warn = warn
        self._quiet: frozenset[ObjectId] | None = None  # the packs that all looks had missed something in

    def find(self, object_id: ObjectId) -> Place:
        """DamagedError: nowhere."""
        for place in self.looks(object_id):
            return place
        raise absent(object_id)

    def looks(self, object_id: ObjectId) -> Iterator[Place]:
        """Where an object lies, each time that somebody looks: until it has not been found too often.

        Several looks: gcs at once may hand a pack to and fro, so that it is aside just when packs are listed,
        and back just when the trash is looked at. One, where all of them have missed another object and no
        pack has moved since: many may be lost.
        """
        for look in range(_LOOKS):
            if look:  # not even for no time: that would let go of the interpreter
                time.sleep(look * _LOOK_SECONDS)
            place = self._seek(object_id)
            if place is not None:
                yield place
            if self._is_quiet():  # there is no such object, or a link that leads nowhere
                break
        self._quiet = None if trash_directories(self._layout) else self._packs.present

    def _seek(self, object_id: ObjectId) -> Place | None:
        """One look wherever the object could be."""
        packs = self._packs
        place = packs.place(object_id)
        if place is None and packs.refresh():
            place = packs.place(object_id)
        if place is None and restore_objects(self._layout, as_ids(object_id), self._warn) and packs.refresh():
            place = packs.place(object_id)
        if place is None and packs.prove_indexes():
            place = packs.place(object_id)
        return place

    def _is_quiet(self) -> bool:
        """Whether no pack has come, gone or been put aside since all looks missed something."""
        if self._quiet is None or self._packs.refresh() or trash_directories(self._layout):
            return False
        return self._packs.present == self._quiet


def absent(own_id: ObjectId) -> DamagedError:
    """What is said of an object that is nowhere."""
    return DamagedError(
        f"object {own_id.hex()} is in no pack",
        hint="`mp fsck` tells what it touches, `mp fsck --repair --from DIR` can bring it back from a copy",
    )
