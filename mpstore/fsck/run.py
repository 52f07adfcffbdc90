"""`check` and `repair`: the order of the checks, and of what is mended.

Relies on its neighbours. Promises: check writes nothing; repair checks, mends, and checks again, so that what
it reports as left is what is really there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpstore.events import Progress, silent
from mpstore.fsck import mend
from mpstore.fsck.checks import Content, Damage, check_names, check_objects, check_packs, read_packs
from mpstore.fsck.report import FsckReport
from mpstore.fsck.sources import Source, open_source
from mpstore.fsck.subset import Subset
from mpstore.fsck.touched import find_touched, with_dependents
from mpstore.ids import ObjectId
from mpstore.reachability import Marker
from mpstore.repository import Repo


@dataclass(frozen=True)
class _Findings:
    names: list[Damage]
    packs: list[Damage]
    notes: list[Damage]
    objects: list[Damage]
    marker: Marker
    content: Content

    @property
    def damage(self) -> tuple[Damage, ...]:
        known = {one.name for one in self.objects if one.what == "object"}
        content = [one for one in self.content.damage if one.what != "object" or one.name not in known]
        return (*self.names, *self.packs, *self.objects, *content)

    @property
    def bad_ids(self) -> set[ObjectId]:
        return self.content.bad_ids | set(self.marker.lost)


def check(
    repo: Repo, *, read_data: bool = False, subset: Subset | None = None, progress: Progress = silent
) -> FsckReport:
    """Look for damage. read_data: read and decode every object; subset: only a part of them.

    `repo` should be freshly opened: records that it has in memory are not read again.
    """
    begun = time.monotonic()
    report = _report(repo, _findings(repo, read_data, subset, progress))
    return replace(report, seconds=round(time.monotonic() - begun, 3))


def repair(
    repo: Repo,
    *,
    read_data: bool = True,
    subset: Subset | None = None,
    sources: Sequence[str] = (),
    progress: Progress = silent,
) -> FsckReport:
    """Look for damage and mend what can be; sources: directories or repositories that may have copies."""
    begun = time.monotonic()
    opened = [open_source(path) for path in sources]
    found = _findings(repo, read_data, subset, progress)
    first = _report(repo, found)
    repaired = mend.mend_names(repo, found.marker)
    repaired += _mend_content(repo, found, opened, read_data, subset, progress)
    again = Repo.open(repo.root, progress)
    left = _report(again, _findings(again, read_data, subset, progress))
    return replace(
        left,
        damage=first.damage,
        touched=first.touched,
        notes=first.notes,
        repaired=tuple(repaired),
        seconds=round(time.monotonic() - begun, 3),
    )


def _mend_content(
    repo: Repo,
    found: _Findings,
    sources: Sequence[Source],
    read_data: bool,
    subset: Subset | None,
    progress: Progress,
) -> list[str]:
    """Refill first (a delta can be salvaged only when its base can be read), then salvage, then indexes."""
    done: list[str] = []
    now = found
    while sources and now.bad_ids:
        sizes = now.marker.block_sizes | {repo.config.block_elements}
        refilled = mend.refill(repo, now.bad_ids, sources, sizes)
        done += refilled
        if not refilled:
            break
        # A tensor record that came back names blocks that may be lost too.
        repo = Repo.open(repo.root, progress)
        now = _findings(repo, read_data, subset, progress)
    suspects = {bytes.fromhex(one.name) for one in now.packs if one.what == "pack"}
    done += mend.salvage(repo, now.content.bad_packs | suspects)
    damage, notes = check_packs(repo)
    return done + mend.mend_indexes(repo, [*damage, *notes, *now.content.damage])


def _findings(repo: Repo, read_data: bool, subset: Subset | None, progress: Progress) -> _Findings:
    names = check_names(repo)
    packs, notes = check_packs(repo)
    objects, marker = check_objects(repo)
    content = Content()
    if read_data or subset is not None:
        total = sum(info.size_bytes for info in marker.table.packs)
        task = progress.task("reading packs", None if subset else total, "bytes")
        content = read_packs(repo, None if subset is None else subset.of(total), task)
        task.finish()
    return _Findings(names, packs, notes, objects, marker, content)


def _report(repo: Repo, found: _Findings) -> FsckReport:
    bad = with_dependents(found.marker.table, found.bad_ids)
    return FsckReport(
        packs=len(found.marker.table.packs),
        objects=found.marker.table.rows,
        reachable_objects=int(found.marker.live.sum()),
        read_objects=found.content.read_objects,
        read_bytes=found.content.read_bytes,
        damage=found.damage,
        touched=find_touched(repo, bad),
        damage_left=found.damage,
        notes=tuple(found.notes),
    )
