"""Mending: refs from their logs, indexes from packs, objects from other copies, packs by salvage.

Relies on checks, sources and store. Promises: a repair never makes it worse: nothing is thrown away (damaged
packs go to objects/quarantine/), and what replaces something is durable before that moves.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from mpstore import files
from mpstore.errors import DamagedError, StorageError
from mpstore.fsck.checks import Damage, read_pack
from mpstore.fsck.sources import Source
from mpstore.ids import ObjectId, short
from mpstore.reachability import Marker
from mpstore.records.model import Commit, Parent
from mpstore.repository import Repo
from mpstore.store import packindex
from mpstore.store.frame import record_form, record_kind
from mpstore.store.layout import CACHE_NAME, index_path, pack_path
from mpstore.store.pack import PackFile, read_group


def mend_names(repo: Repo, marker: Marker) -> list[str]:
    """Rewrite refs from their logs and the other way round. A newest move that neither tells named the commit
    that is made on the one before and that nothing else reaches, if there is one such commit."""
    done = []
    for name in repo.refs.names("", deleted=True):
        try:
            lost = [] if repo.refs.is_certain(name) else _made_on(repo, marker, name)
            done += repo.refs.repair(name, lost[0] if len(lost) == 1 else None)
        except (DamagedError, StorageError):
            continue  # neither half can be read, or something foreign is in the way: it stays reported
    return done


def _made_on(repo: Repo, marker: Marker, name: str) -> list[ObjectId]:
    """Commits that no name reaches, made on the commit that a branch is known to have been at."""
    ref = repo.refs.read(name)
    table = marker.table
    found = []
    for row in np.flatnonzero((table.form == record_form(Commit.KIND)) & ~marker.live):
        own_id = table.ids([row])[0].tobytes()
        with contextlib.suppress(DamagedError):
            parents = repo.commit(own_id).parents
            if ref is not None and Parent("previous", ref.value) in parents:
                found.append(own_id)
    return found


def mend_indexes(repo: Repo, damage: Iterable[Damage]) -> list[str]:
    """Write missing and damaged indexes anew from their packs, and remove those whose pack is gone."""
    directory = repo.objects.layout.packs
    done = []
    for name in dict.fromkeys(one.name for one in damage if one.what == "index"):
        pack_id = bytes.fromhex(name)
        path = index_path(directory, pack_id)
        if not os.path.lexists(pack_path(directory, pack_id)):
            files.remove(path)
            done.append(f"index {name}: removed, its pack is gone")
            continue
        try:
            table = repo.objects.packs.scanned(pack_id)
        except (FileNotFoundError, DamagedError, StorageError):
            continue  # an index that has nothing of the pack would hide it
        if os.path.isdir(path):
            _put_aside(repo, path)
        files.write_whole(path, packindex.to_bytes(table), repo.objects.layout.tmp)
        done.append(f"index {name}: rebuilt from its pack, {table.rows} objects")
    return done + _mend_cache(repo, rebuilt=bool(done))


def _mend_cache(repo: Repo, rebuilt: bool) -> list[str]:
    """Remove the cache of indexes where it is damaged, or has what indexes said before they were rebuilt."""
    cache = os.path.join(repo.objects.layout.cache, CACHE_NAME)
    try:
        packindex.verify(cache)
    except FileNotFoundError:
        return []
    except (DamagedError, StorageError):
        files.remove(cache)
        return ["the cache of indexes: removed, it was damaged"]
    if rebuilt:
        files.remove(cache)
    return []


def refill(
    repo: Repo, lost: set[ObjectId], sources: Sequence[Source], block_sizes: Collection[int]
) -> list[str]:
    """Take lost objects from other copies; `block_sizes` are those that blocks of tensors may have."""
    done: list[str] = []
    missing = set(lost)
    with repo.objects.writer("fsck") as writer:
        for source in sources:
            for own_id, form, raw in source.find(missing, block_sizes):
                if own_id in missing:
                    writer.store_anew(own_id, raw, form)
                    missing.discard(own_id)
                    kind = record_kind(form) or "block"
                    done.append(f"{kind} {short(own_id)}: taken from another copy")
        writer.finish()
    return done


def salvage(repo: Repo, suspects: Iterable[ObjectId]) -> list[str]:
    """Read suspected packs whole; of those that are damaged copy what is good into new packs, then put them
    aside. Deltas whose base cannot be read are copied unproved: the base may come back. Where all is good and
    only bytes between or behind were not, the new pack has the old one's name, and takes its place."""
    reads = {pack_id: read_pack(repo.objects, pack_id) for pack_id in sorted(suspects)}
    damaged = {
        pack_id: read
        for pack_id, read in reads.items()
        if (read.problems or read.bad_ids) and not read.refused  # else it is left where it is
    }
    before = {pack_id: _place(repo, pack_id) for pack_id in damaged}
    for pack_id in damaged:
        _keep_aside(repo, pack_id)
    with repo.objects.writer("fsck") as writer:
        for pack_id, read in damaged.items():
            entries = [*read.good, *read.unproved]
            pack = PackFile(pack_path(repo.objects.layout.packs, pack_id)) if entries else None
            for entry in entries:
                assert pack is not None
                _, (frame,) = read_group(pack, [entry])
                writer.copy(frame.header, frame.segments)
        writer.finish()
        for pack_id in damaged:
            if _place(repo, pack_id) == before[pack_id]:
                _quarantine(repo, pack_id)
    repo.objects.refresh()
    return [
        f"pack {pack_id.hex()}: {len(read.good) + len(read.unproved)} objects salvaged, "
        "the pack put aside in objects/quarantine"
        for pack_id, read in damaged.items()
    ]


def _place(repo: Repo, pack_id: ObjectId) -> tuple[int, int] | None:
    """Which file has the pack's name."""
    try:
        found = os.lstat(pack_path(repo.objects.layout.packs, pack_id))
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _keep_aside(repo: Repo, pack_id: ObjectId) -> None:
    """The damaged pack has a name in quarantine, too, before anything may take its place."""
    path = pack_path(repo.objects.layout.packs, pack_id)
    aside = _aside(repo, path)
    if files.link(path, aside):
        files.fsync_directory(os.path.dirname(aside))


def _quarantine(repo: Repo, pack_id: ObjectId) -> None:
    _put_aside(repo, pack_path(repo.objects.layout.packs, pack_id))
    _put_aside(repo, index_path(repo.objects.layout.packs, pack_id))


def _put_aside(repo: Repo, path: str) -> None:
    aside = _aside(repo, path)
    if not files.rename(path, aside):
        return
    if os.path.lexists(path) and os.path.samefile(path, aside):
        files.remove(path)  # two names of one file, of which renaming takes neither away
    files.fsync_directory(os.path.dirname(aside))
    files.fsync_directory(os.path.dirname(path))


def _aside(repo: Repo, path: str) -> str:
    """A file's place in quarantine, which is made."""
    quarantine = repo.objects.layout.quarantine
    files.make_directories(quarantine, within=repo.root)
    return os.path.join(quarantine, os.path.basename(path))
