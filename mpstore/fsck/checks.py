"""The checks, each returning what it found wrong: names, packs with their indexes, connectivity, content.

Relies on repository, reachability and store. Promises: nothing is written; one damaged thing does not keep
the next from being looked at; an object with one good copy is not called damaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from blake3 import blake3

from mpstore.errors import UNREADABLE, DamagedError, NotFoundError, StorageError
from mpstore.events import Task
from mpstore.fsck.subset import Subset
from mpstore.ids import ObjectId
from mpstore.kernels.idrows_numpy import prefixes
from mpstore.pipeline import thread_count
from mpstore.reachability import Lost, Marker, logged_names, whole_table
from mpstore.repository import Repo
from mpstore.store import ObjectStore, packindex
from mpstore.store.frame import record_kind
from mpstore.store.layout import INDEX_SUFFIX, index_path, pack_ids, pack_path
from mpstore.store.pack import PACK_HEADER_BYTES, Entry, PackFile, read_group
from mpstore.store.scanning import Scan, scan

What: TypeAlias = Literal["ref", "pack", "index", "object", "statistics"]


@dataclass(frozen=True)
class Damage:
    """One thing wrong. name: the ref, pack or object (hex); kind: "block", or of a record its kind."""

    what: What
    name: str
    detail: str
    kind: str = ""


@dataclass
class Content:
    """What reading packs showed: objects with no good copy, and packs that are not as they were written."""

    damage: list[Damage] = field(default_factory=list)
    bad_ids: set[ObjectId] = field(default_factory=set)
    bad_packs: set[ObjectId] = field(default_factory=set)
    read_objects: int = 0
    read_bytes: int = 0


def check_names(repo: Repo) -> list[Damage]:
    """Ref files and logs, each against its checksum and the other."""
    return [
        Damage("ref", name, detail)
        for name in repo.refs.names("", deleted=True)
        for detail in [*repo.refs.damage(name), *_untold(repo, name)]
    ]


def _untold(repo: Repo, name: str) -> list[str]:
    """A ref whose newest move cannot be read from either, and what helps."""
    try:
        repo.refs.settled(name)
    except DamagedError as error:
        return [f"{error.message}; {error.hint}"]
    return []


def check_packs(repo: Repo) -> tuple[list[Damage], list[Damage]]:
    """Whether every pack has a good index that belongs to it, and the size that the index says: damage, and
    what a crash or a full disk may leave and costs nothing but time."""
    directory = repo.objects.layout.packs
    found: list[Damage] = []
    notes: list[Damage] = []
    present = pack_ids(directory)
    for pack_id in sorted(present):
        name = pack_id.hex()
        try:
            table = packindex.verify(index_path(directory, pack_id))
            if [info.id for info in table.packs] != [pack_id]:
                raise DamagedError(f"index {name}{INDEX_SUFFIX}: it is of another pack")
            expected = table.packs[0].size_bytes
            size = os.path.getsize(pack_path(directory, pack_id))
            if not os.path.isfile(pack_path(directory, pack_id)):
                found.append(Damage("pack", name, "it is no file"))
            elif size != expected:
                found.append(Damage("pack", name, f"it has {size} bytes, its index says {expected}"))
        except FileNotFoundError:
            whole = _is_whole(pack_path(directory, pack_id))
            if whole:
                notes.append(Damage("index", name, "not there yet: rebuilt when needed, written by --repair"))
            elif whole is not None:
                found.append(Damage("index", name, "the pack has no index, and is damaged itself"))
            elif os.path.islink(pack_path(directory, pack_id)):
                found.append(Damage("pack", name, "a link that leads nowhere"))
        except (DamagedError, StorageError) as error:
            found.append(Damage("index", name, error.message))
        except OSError as error:
            found.append(Damage("pack", name, error.strerror or str(error)))
    for entry in sorted(os.listdir(directory)):
        stem, suffix = os.path.splitext(entry)
        if suffix == INDEX_SUFFIX and stem not in {one.hex() for one in present}:
            notes.append(Damage("index", stem, "its pack is gone: never used, removed by --repair"))
    return found, notes


def _is_whole(path: str) -> bool | None:
    """Whether a pack is frames from end to end; None: it has gone (gc or another fsck is at work)."""
    try:
        found = scan(PackFile(path))
    except FileNotFoundError:
        return None
    except (DamagedError, StorageError):
        return False
    return found.kind is not None and bool(found.entries) and not found.damaged


def check_objects(repo: Repo) -> tuple[list[Damage], Marker]:
    """Whether all that refs, reflogs and statistics name is there."""
    marker = Marker(repo, whole_table(repo))
    commits = set()
    found = []
    for name in logged_names(repo):
        try:
            ref = repo.refs.read(name)
        except UNREADABLE as error:
            found.append(Damage("ref", name, error.message))
            continue
        entries = repo.refs.log(name)[::-1]
        commits |= {one for entry in entries[1:] for one in (entry.old, entry.new) if one is not None}
        commits |= {entry.new for entry in entries[:1] if entry.new is not None}
        commits |= {ref.value} if ref is not None else set()
    marker.mark_commits(commits)
    marker.mark_bases()
    marker.mark_plans()
    _find_cut_off(repo, marker)
    found += [Damage("object", one.id.hex(), one.reason, one.kind) for one in marker.lost.values()]
    found += _check_statistics(repo, marker)
    return found, marker


def _find_cut_off(repo: Repo, marker: Marker) -> None:
    """Count as lost what an index places past the end of its pack."""
    table = marker.table
    for number, info in enumerate(table.packs):
        try:
            size = os.path.getsize(pack_path(repo.objects.layout.packs, info.id))
        except OSError:
            continue
        if size >= info.size_bytes:
            continue
        ends = table.offset.astype(np.int64) + table.frame_bytes
        for row in np.flatnonzero(marker.live & (table.pack == number) & (ends > size)):
            own_id = table.ids([row])[0].tobytes()
            if not _readable(repo.objects, own_id):
                kind = record_kind(int(table.form[row])) or "block"
                marker.lost.setdefault(own_id, Lost(own_id, kind, f"pack {info.id.hex()} is cut off"))


def _check_statistics(repo: Repo, marker: Marker) -> Iterator[Damage]:
    """Records of statistics that are lost are counted among what a copy may bring back."""
    for name in repo.refs.names("stats/"):
        ref = None
        try:
            ref = repo.refs.read(name)
            if ref is not None:
                repo.objects.read_record("columns", ref.value)
                marker.mark_ids(packindex.as_ids(ref.value), "columns")
        except UNREADABLE as error:
            yield Damage("statistics", name, f"{error.message}; `mp analyze` makes them anew")
            if ref is not None and not isinstance(error, NotFoundError):
                marker.lost.setdefault(ref.value, Lost(ref.value, "columns", error.message))


def read_packs(repo: Repo, subset: Subset | None, task: Task) -> Content:
    """Read frames (of all packs, or a subset), decode them and compare with their ids; where a pack is read
    whole, compare its bytes with its name too."""
    content = Content()
    generator = np.random.default_rng()
    store = repo.objects
    with ThreadPoolExecutor(thread_count(None, repo.config.threads)) as pool:
        for pack_id, read in pool.map(
            lambda one: (one, read_pack(store, one, subset, generator)), sorted(pack_ids(store.layout.packs))
        ):
            content.read_objects += read.objects
            content.read_bytes += read.bytes
            if read.problems:
                content.bad_packs.add(pack_id)
                content.damage += [Damage("pack", pack_id.hex(), problem) for problem in read.problems]
            if read.wrong_index:
                detail = "it has its checksum, and says something else than the pack, which is whole"
                content.damage.append(Damage("index", pack_id.hex(), detail))
            content.bad_ids |= read.bad_ids
            task.advance(read.bytes)
    content.bad_ids = {one for one in content.bad_ids if not _readable(store, one)}
    content.damage += [
        Damage("object", one.hex(), "no copy of it decodes to its id", _kind(store, one))
        for one in sorted(content.bad_ids)
    ]
    return content


def _readable(store: ObjectStore, object_id: ObjectId) -> bool:
    try:
        store.read(object_id)
    except (DamagedError, StorageError):
        return False
    return True


def _kind(store: ObjectStore, object_id: ObjectId) -> str:
    place = store.packs.place(object_id)
    return "block" if place is None else record_kind(place.form) or "block"


@dataclass
class PackRead:
    """What reading one pack showed. unproved: deltas whose base cannot be read; refused: it could not even be
    opened (permissions, too many open files), which tells nothing of what is in it."""

    problems: list[str] = field(default_factory=list)
    refused: bool = False
    wrong_index: bool = False  # it has its checksum, and says something else than the pack
    good: list[Entry] = field(default_factory=list)
    unproved: list[Entry] = field(default_factory=list)
    bad_ids: set[ObjectId] = field(default_factory=set)
    objects: int = 0
    bytes: int = 0


def read_pack(
    store: ObjectStore,
    pack_id: ObjectId,
    subset: Subset | None = None,
    generator: np.random.Generator | None = None,
) -> PackRead:
    """Read and decode the frames of one pack, or a subset of them."""
    read = PackRead()
    try:
        pack = PackFile(pack_path(store.layout.packs, pack_id))
        found = scan(pack)
    except FileNotFoundError:
        return read  # gc or another fsck took it away
    except StorageError as error:
        read.problems.append(error.message)
        read.refused = True
        return read
    except DamagedError as error:
        read.problems.append(error.message)
        _compare_index(store, pack_id, Scan(None, (), ()), 0, read, proved=False)
        return read
    read.problems += [f"no frame can be made out in bytes {start} to {stop}" for start, stop in found.damaged]
    entries = _chosen(found, subset, generator or np.random.default_rng())
    hasher = blake3(pack.readable(0, min(PACK_HEADER_BYTES, pack.size), "verify"))
    for group in _groups(entries):
        _read_group(store, pack, group, read, hasher)
    every = len(entries) == len(found.entries) and not read.problems
    if every and hasher.digest() != pack_id:
        read.problems.append("its bytes do not hash to its name, though every object in it is whole")
    _compare_index(store, pack_id, found, pack.size, read, proved=every and not read.problems)
    return read


def _compare_index(
    store: ObjectStore, pack_id: ObjectId, found: Scan, size: int, read: PackRead, proved: bool
) -> None:
    """What the index has and the pack does not: the index is wrong where the pack is `proved`, else the
    object is lost."""
    try:
        table = packindex.verify(index_path(store.layout.packs, pack_id))
    except (FileNotFoundError, DamagedError, StorageError):
        return
    if proved and found.kind is not None:
        info = packindex.PackInfo(pack_id, size, found.kind)
        read.wrong_index = not packindex.same(table, packindex.build(info, found.entries))
    else:
        indexed = {own_id.tobytes() for own_id in table.ids()}
        read.bad_ids |= indexed - {entry.header.id for entry in found.entries}


def _chosen(found: Scan, subset: Subset | None, generator: np.random.Generator) -> list[Entry]:
    if subset is None or not found.entries:
        return list(found.entries)
    ids = packindex.as_ids(b"".join(entry.header.id for entry in found.entries))
    chosen = subset.choose(prefixes(ids), generator)
    return [entry for entry, take in zip(found.entries, chosen, strict=True) if take]


def _groups(entries: Iterable[Entry], limit_bytes: int = 8 << 20) -> Iterator[list[Entry]]:
    """Runs of neighbours, each at most so many bytes."""
    group: list[Entry] = []
    size = 0
    for entry in entries:
        follows = bool(group) and group[-1].offset + group[-1].header.frame_bytes == entry.offset
        if group and (not follows or size + entry.header.frame_bytes > limit_bytes):
            yield group
            group, size = [], 0
        group.append(entry)
        size += entry.header.frame_bytes
    if group:
        yield group


def _read_group(
    store: ObjectStore, pack: PackFile, group: list[Entry], read: PackRead, hasher: blake3
) -> None:
    try:
        data, frames = read_group(pack, group)
    except DamagedError as error:
        if len(group) > 1:  # one bad place must not spoil its neighbours
            for entry in group:
                _read_group(store, pack, [entry], read, hasher)
            return
        read.problems.append(error.message)
        read.bad_ids |= {entry.header.id for entry in group}
        return
    hasher.update(data)
    read.bytes += data.nbytes
    for entry, frame in zip(group, frames, strict=True):
        read.objects += 1
        try:
            store.decode(frame)
        except StorageError:  # the pack of its base cannot be opened: no fault of this one
            read.bad_ids.add(entry.header.id)
            read.unproved.append(entry)
            continue
        except DamagedError as error:
            read.bad_ids.add(entry.header.id)
            if frame.needs_base and not _readable(store, frame.base):
                read.unproved.append(entry)
            else:
                read.problems.append(error.message)
            continue
        read.good.append(entry)
