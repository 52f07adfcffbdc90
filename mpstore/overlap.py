"""How far experts are from each other, block by block: what makes the bounds of their merges tight.

Relies on repository and statistics. Promises: one pass over all of them, each block decoded once; what is
known is not computed again; nothing of a merge's result depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore import dtypes
from mpstore.errors import IncompatibleError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short
from mpstore.pipeline import OrderedPipeline, thread_count
from mpstore.records.model import Commit, TensorRecord
from mpstore.repository import Repo
from mpstore.statistics import Distances
from mpstore.statistics.apart import Pair, apart
from mpstore.statistics.distances import to_record

Column = npt.NDArray[np.float64]

_DEPTH_PER_THREAD: Final = 2
_RUN_ELEMENTS: Final = 1 << 21
ALONG_BYTES: Final = 192 << 20
"""What `mp add` decodes at most to compare a checkpoint with its siblings: some tenths of a second."""


@dataclass(frozen=True)
class _Member:
    """A checkpoint: its manifest's id and its float tensors."""

    manifest: ObjectId
    tensors: Mapping[str, TensorRecord]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(self.tensors))


def measure(
    repo: Repo,
    commits: Sequence[ObjectId],
    *,
    force: bool = False,
    progress: Progress = silent,
    threads: int | None = None,
) -> int:
    """Know the distances between every two of these commits; how many pairs were measured for it.

    IncompatibleError: one of them is no checkpoint of full weights.
    """
    manifests = dict.fromkeys(_manifest(repo, one) for one in commits)
    pairs = [
        (later, earlier)
        for earlier, later in combinations(manifests, 2)
        if force or not is_known(repo, earlier, later)
    ]
    return _measure(repo, commits, pairs, progress, threads)


def is_small(repo: Repo, commit: ObjectId) -> bool:
    """Whether a commit and one other of its size can be compared in no time."""
    manifest = _manifest_of(repo, commit)
    return manifest is not None and 2 * _raw_bytes(repo, manifest) <= ALONG_BYTES


def along(
    repo: Repo,
    siblings: Mapping[ObjectId, Sequence[ObjectId]],
    *,
    progress: Progress = silent,
    threads: int | None = None,
) -> int:
    """Know the distances from each commit to as many of its siblings, the first ones first, as can be read in
    no time; how many pairs were measured. What is no checkpoint of full weights is passed over."""
    near: dict[ObjectId, None] = {}
    pairs: dict[Pair, None] = {}
    for commit, others in siblings.items():
        if _manifest_of(repo, commit) is None:
            continue
        own = repo.commit(commit).manifest
        left = ALONG_BYTES - _raw_bytes(repo, own)
        for sibling in others:
            other = _manifest_of(repo, sibling)
            if other is None or other == own or (other, own) in pairs or is_known(repo, own, other):
                continue
            left -= _raw_bytes(repo, other)
            if left < 0:
                break
            near |= {commit: None, sibling: None}
            pairs[own, other] = None
    return _measure(repo, list(near), list(pairs), progress, threads)


def is_known(repo: Repo, one: ObjectId, other: ObjectId) -> bool:
    """Whether the distances between two manifests are known."""
    for first, second in ((one, other), (other, one)):
        known = repo.distances(first)
        if known is not None and second in known.others:
            return True
    return False


def _manifest_of(repo: Repo, commit: ObjectId) -> ObjectId | None:
    found: Commit = repo.commit(commit)
    whole = found.kind == "full" and not repo.manifest(found.manifest).partial
    return found.manifest if whole else None


def _manifest(repo: Repo, commit: ObjectId) -> ObjectId:
    found = _manifest_of(repo, commit)
    if found is None:
        kind = repo.commit(commit).kind
        what = "only partly in the store" if kind == "full" else f"a {kind} checkpoint"
        raise IncompatibleError(
            f"{short(commit)} is {what}, and experts are compared where they are full weights"
        )
    return found


def _raw_bytes(repo: Repo, manifest: ObjectId) -> int:
    return sum(entry.size for entry in repo.manifest(manifest).files if entry.kind == "safetensors")


def _measure(
    repo: Repo,
    commits: Sequence[ObjectId],
    pairs: Sequence[Pair],
    progress: Progress,
    threads: int | None,
) -> int:
    """Measure pairs of manifests; each pair is kept with the first of the two."""
    if not pairs:
        return 0
    with repo.objects.writer("overlap") as writer:
        for commit in commits:
            writer.pin_commit(commit)
        members = {one: _member(repo, one) for one in sorted({one for pair in pairs for one in pair})}
        found = _apart(repo, members, pairs, progress, thread_count(threads, repo.config.threads))
        kept = {}
        for one in sorted({first for first, _ in pairs}):
            new = _distances(members[one], found)
            old = repo.distances(one)
            kept[one] = repo.put(writer, to_record(new if old is None else old.merged(new)))
        writer.finish()
        for one, record in kept.items():
            repo.name_statistics(one, one, record)
    return len(pairs)


def _distances(member: _Member, found: Mapping[Pair, Column]) -> Distances:
    """What was found of the pairs that this one comes first in."""
    others = tuple(second for first, second in found if first == member.manifest)
    apart = np.stack([found[member.manifest, other] for other in others])
    return Distances(member.manifest, others, member.keys, _offsets(member), apart)


def _member(repo: Repo, manifest: ObjectId) -> _Member:
    records = repo.tensors(repo.manifest(manifest))
    known = {key: dtypes.of(record.dtype) for key, record in records.items()}
    floats = {key for key, dtype in known.items() if dtype is not None and dtype.is_float}
    return _Member(manifest, {key: records[key] for key in sorted(floats)})


def _offsets(member: _Member) -> npt.NDArray[np.int64]:
    blocks = [member.tensors[key].blocks for key in member.keys]
    return np.concatenate([[0], np.cumsum(blocks, dtype=np.int64)]).astype(np.int64)


def _apart(
    repo: Repo,
    members: Mapping[ObjectId, _Member],
    pairs: Sequence[Pair],
    progress: Progress,
    workers: int,
) -> dict[Pair, Column]:
    """|x - y|^2 per block of the first of each pair."""
    starts = {one: dict(zip(m.keys, _offsets(m)[:-1].tolist(), strict=True)) for one, m in members.items()}
    found = {pair: np.full(int(_offsets(members[pair[0]])[-1]), np.nan) for pair in pairs}
    keys = sorted({key for member in members.values() for key in member.tensors})
    task = progress.task("comparing", len(keys), "tensors")

    def enter(key: str, start: int, measured: Sequence[Pair], sizes: list[Column]) -> None:
        for pair, column in zip(measured, sizes, strict=True):
            at = starts[pair[0]][key] + start
            found[pair][at : at + len(column)] = column

    with (
        ThreadPoolExecutor(workers, thread_name_prefix="mp-overlap") as pool,
        OrderedPipeline(pool, workers * _DEPTH_PER_THREAD) as pipeline,
    ):
        for key in keys:
            records = {one: m.tensors[key] for one, m in members.items() if key in m.tensors}
            shared = [pair for pair in pairs if _same_blocks(records, pair)]
            for start, stop in _runs(records, shared):
                work = partial(apart, repo.objects, records, shared, start, stop)
                pipeline.submit(work, partial(enter, key, start, shared))
            task.advance(1)
    task.finish()
    return found


def _runs(records: Mapping[ObjectId, TensorRecord], shared: Sequence[Pair]) -> Iterator[tuple[int, int]]:
    """Blocks of a tensor that are compared together: as many as stay in the caches."""
    if shared:
        record = records[shared[0][0]]
        step = max(1, _RUN_ELEMENTS // (record.block_elements * len(records)))
        for start in range(0, record.blocks, step):
            yield start, min(start + step, record.blocks)


def _same_blocks(records: Mapping[ObjectId, TensorRecord], pair: Pair) -> bool:
    one, other = (records.get(member) for member in pair)
    if one is None or other is None:
        return False
    return one.shape == other.shape and one.block_elements == other.block_elements
