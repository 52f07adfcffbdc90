"""What damaged objects touch: the tensors and files that hold them, in which commits, under which refs.

Relies on repository. Promises: reads records only; what cannot be read is itself named as touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpstore.errors import UNREADABLE
from mpstore.ids import ObjectId, short
from mpstore.records.model import Manifest
from mpstore.repository import Repo
from mpstore.store import packindex
from mpstore.store.packindex import IndexTable


@dataclass(frozen=True)
class Touched:
    """refs whose history has the commit (hex); its tensor or file that is touched; lost objects in that."""

    refs: tuple[str, ...]
    commit: str
    tensor: str
    objects: int


def with_dependents(table: IndexTable, bad: set[ObjectId]) -> set[ObjectId]:
    """The bad objects and the deltas that lean on them."""
    if not bad or not table.rows:
        return set(bad)
    rows = np.flatnonzero(table.base_row < len(table.bases))
    bases = table.base_ids(rows)
    leaning = np.array([base.tobytes() in bad for base in bases], np.bool_)
    return bad | {own_id.tobytes() for own_id in table.ids(rows[leaning])}


def find_touched(repo: Repo, bad: set[ObjectId]) -> tuple[Touched, ...]:
    """All that any of the bad objects touches, by commit, then tensor."""
    if not bad:
        return ()
    refs_of = _refs_of_commits(repo)
    by_manifest: dict[ObjectId, list[tuple[str, int]]] = {}
    out = []
    for commit_id, refs in refs_of.items():
        where = tuple(sorted(refs))
        try:
            manifest_id = repo.commit(commit_id).manifest
        except UNREADABLE:
            out.append(Touched(where, commit_id.hex(), "(the commit itself)", 1))
            continue
        if manifest_id not in by_manifest:
            by_manifest[manifest_id] = list(_in_manifest(repo, manifest_id, bad))
        out += [Touched(where, commit_id.hex(), name, count) for name, count in by_manifest[manifest_id]]
    return tuple(sorted(out, key=lambda one: (one.refs, one.commit, one.tensor)))


def _refs_of_commits(repo: Repo) -> dict[ObjectId, set[str]]:
    """Every commit in the history of a branch or tag, with the names that have it."""
    refs_of: dict[ObjectId, set[str]] = defaultdict(set)
    for name in [*repo.refs.names("heads/"), *repo.refs.names("tags/")]:
        try:
            ref = repo.refs.read(name)
        except UNREADABLE:
            continue
        waiting = [] if ref is None else [ref.value]
        while waiting:
            commit_id = waiting.pop()
            if name in refs_of[commit_id]:
                continue
            refs_of[commit_id].add(name)
            try:
                waiting += [parent.commit for parent in repo.commit(commit_id).parents]
            except UNREADABLE:
                continue
    return refs_of


def _in_manifest(repo: Repo, manifest_id: ObjectId, bad: set[ObjectId]) -> Iterator[tuple[str, int]]:
    try:
        manifest = repo.manifest(manifest_id)
    except UNREADABLE:
        yield f"(the whole manifest {short(manifest_id)})", 1
        return
    for entry in manifest.files:
        count = _count(entry.content_ids, bad)
        if count:
            yield entry.path, count
    yield from _in_tensors(repo, manifest, bad)


def _in_tensors(repo: Repo, manifest: Manifest, bad: set[ObjectId]) -> Iterator[tuple[str, int]]:
    for key, record_id in manifest.tensors.items():
        if not record_id:
            continue
        try:
            count = _count(repo.tensor(record_id).block_ids, bad)
        except UNREADABLE:
            count = 1
        if count:
            yield key, count


def _count(ids: bytes, bad: set[ObjectId]) -> int:
    return sum(one.tobytes() in bad for one in packindex.as_ids(ids))
