"""Statistics of a pair of stored checkpoints that came in without each other.

Relies on repository and statistics. Promises: what it finds is what ingest would have found; nothing is
computed that is known already.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mpstore.errors import IncompatibleError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short
from mpstore.pipeline import OrderedPipeline, thread_count
from mpstore.records.model import TensorRecord
from mpstore.repository import Repo
from mpstore.statistics import Collector, DeltaStatistics, to_columns
from mpstore.statistics.columns import ExpertKind
from mpstore.statistics.stored import comparable, measure_stored

_DEPTH_PER_THREAD: Final = 6


def analyze(
    repo: Repo,
    base: ObjectId,
    expert: ObjectId,
    *,
    force: bool = False,
    progress: Progress = silent,
    threads: int | None = None,
) -> DeltaStatistics:
    """The statistics of two commits, read from the store and kept there; those that are there already are
    only read, unless `force`. IncompatibleError: a LoRA adapter, or no tensor in common; DamagedError."""
    base_commit, expert_commit = repo.commit(base), repo.commit(expert)
    if expert_commit.kind == "lora":
        raise IncompatibleError(
            f"{short(expert)} is a LoRA adapter, which needs no statistics: its few bytes are read whole"
        )
    kind: ExpertKind = "delta" if expert_commit.kind == "delta" else "full"
    known = repo.statistics(base_commit.manifest, expert_commit.manifest)
    if known is not None and known.expert_kind == kind and not force:
        return known
    pairs = _pairs(repo, base_commit.manifest, expert_commit.manifest)
    if not pairs:
        raise IncompatibleError(f"{short(base)} and {short(expert)} have no tensor of one shape in common")
    with repo.objects.writer("analyze") as writer:
        writer.pin_commit(base)
        writer.pin_commit(expert)
        found = _measure(repo, pairs, kind, progress, thread_count(threads, repo.config.threads))
        pair = found.finish(base_commit.manifest, expert_commit.manifest, kind)
        record = repo.put(writer, to_columns(pair))
        writer.finish()
        repo.name_statistics(pair.base_manifest, pair.expert_manifest, record)
    return pair


def _pairs(repo: Repo, base: ObjectId, expert: ObjectId) -> list[tuple[str, TensorRecord, TensorRecord]]:
    """Tensors that both have, cut into the same blocks."""
    bases, experts = repo.tensors(repo.manifest(base)), repo.tensors(repo.manifest(expert))
    shared = sorted(bases.keys() & experts.keys())
    return [(key, bases[key], experts[key]) for key in shared if comparable(bases[key], experts[key])]


def _measure(
    repo: Repo,
    pairs: list[tuple[str, TensorRecord, TensorRecord]],
    kind: ExpertKind,
    progress: Progress,
    workers: int,
) -> Collector:
    collector = Collector(repo.config.block_elements)
    task = progress.task("analyzing", len(pairs), "tensors")
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="mp-analyze") as pool,
        OrderedPipeline(pool, workers * _DEPTH_PER_THREAD) as pipeline,
    ):
        for key, base, expert in pairs:
            measure_stored(repo.objects, pipeline, collector, key, base, expert, kind == "full")
            task.advance(1)
    task.finish()
    return collector
