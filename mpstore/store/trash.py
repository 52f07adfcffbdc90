"""The trash: where gc puts packs aside before it removes them, and how they come back.

Relies on packset and files. Promises: every gc has a directory of its own here and removes only from that;
whoever misses an object may move its pack back at any moment, and neither side minds the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mpstore import files, processes
from mpstore.ids import ObjectId
from mpstore.store.layout import INDEX_SUFFIX, Layout, index_path, pack_ids, pack_path
from mpstore.store.lookup import Numbered
from mpstore.store.packindex import Ids
from mpstore.store.packset import PackSet, Warn


def put_aside(layout: Layout, trash: str, victims: Sequence[ObjectId]) -> None:
    """Move packs to a trash directory of our own, and there too what an earlier gc left behind."""
    files.make_directories(trash, within=layout.root)
    for pack_id in victims:
        if files.rename(pack_path(layout.packs, pack_id), pack_path(trash, pack_id)):
            files.rename(index_path(layout.packs, pack_id), index_path(trash, pack_id))
    for directory in trash_directories(layout):
        owner = processes.parse(os.path.basename(directory))
        if directory != trash and (owner is None or processes.provably_dead(owner)):
            with contextlib.suppress(FileNotFoundError):  # another gc has cleared it away
                for name in os.listdir(directory):
                    files.rename(os.path.join(directory, name), os.path.join(trash, name))
            files.remove_directory(directory)


def empty(trash: str) -> None:
    """Remove what lies in our own trash, packs before their indexes."""
    for pack_id in sorted(pack_ids(trash)):
        files.remove(pack_path(trash, pack_id))
        files.remove(index_path(trash, pack_id))
    for name in os.listdir(trash):
        if name.endswith(INDEX_SUFFIX):
            files.remove(os.path.join(trash, name))
    files.remove_directory(trash)


def trash_directories(layout: Layout) -> list[str]:
    """Where packs are put aside: one directory for each gc that is at work, or died."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.path for entry in os.scandir(layout.trash) if entry.is_dir())
    return []


def restore_packs(layout: Layout, wanted: Iterable[ObjectId]) -> int:
    """Move packs back from the trash; how many came. One that is not there any more is let go."""
    count = 0
    for directory in trash_directories(layout):
        for pack_id in sorted(pack_ids(directory) & set(wanted)):
            if files.rename(pack_path(directory, pack_id), pack_path(layout.packs, pack_id)):
                count += 1
                files.rename(index_path(directory, pack_id), index_path(layout.packs, pack_id))
    if count:  # the old names need not be durably gone: a name too many does no harm
        files.fsync_directory(layout.packs)
    return count


def restore_objects(layout: Layout, ids: Ids, warn: Warn) -> int:
    """Move back from the trash the packs that hold any of the ids (a gc is at work, or died); how many."""
    wanted: set[ObjectId] = set()
    for directory in trash_directories(layout):
        aside = PackSet(layout, warn, directory)
        wanted |= {aside.ids[int(number)] for n in aside.tables() for number in _holding(n, ids)}
    return restore_packs(layout, wanted)


def _holding(numbered: Numbered, ids: Ids) -> npt.NDArray[np.int32]:
    rows = numbered.table.search(ids)
    return numbered.numbers[numbered.table.pack[rows[rows >= 0]]]
