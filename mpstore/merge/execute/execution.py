"""Executing one plan from its record to the output's manifest. No ref moves here.

Relies on this room. Promises: the same plan gives the same manifest id whatever the limits, the memo and the
past; what it needs stays pinned while the writer's session lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpstore.events import Progress, silent
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.merge.execute import output, stack_output
from mpstore.merge.execute.executor import Counters, Executor
from mpstore.merge.execute.limits import Limits
from mpstore.merge.execute.memo import Memo
from mpstore.merge.execute.work import TensorWork, selected_blocks
from mpstore.merge.execute.works import Works
from mpstore.records.encoding import encode
from mpstore.records.model import Coverage, Manifest, Plan, TensorRecord
from mpstore.repository import Repo
from mpstore.store import ObjectWriter


@dataclass(frozen=True)
class Executed:
    """What came of a plan. `expert_read_bytes` and `base_read_bytes` are what this run read from packs;
    of `blocks` output blocks of the tensors that were worked on, `kept_blocks` are the base's."""

    manifest: Manifest
    manifest_id: ObjectId
    expert_read_bytes: int
    base_read_bytes: int
    blocks: int
    kept_blocks: int
    counters: Counters

    @property
    def new_blocks(self) -> int:
        """Output blocks that the store did not have."""
        return self.counters.new_blocks


def execute(
    repo: Repo,
    writer: ObjectWriter,
    plan: Plan,
    *,
    limits: Limits | None = None,
    use_memo: bool = True,
    card: str | None = None,
    progress: Progress = silent,
) -> Executed:
    """Run the plan in the writer's session; the manifest is stored, not committed."""
    writer.pin_commit(plan.base_commit)
    for expert in plan.experts:
        writer.pin_commit(expert.commit)
    meter = repo.objects.meter
    before = {purpose: meter.read_bytes(purpose) for purpose in ("expert", "base")}
    memo = Memo(Path(repo.root, "cache", "memo"), Path(repo.root, "tmp")) if use_memo else None
    works = Works(repo, plan)
    records: dict[str, TensorRecord] = {}
    blocks = kept = 0
    with Executor(repo.objects, writer, memo, limits or Limits(), progress) as executor:
        for work, ids in executor.run(works, plan.cost_bytes):
            record = TensorRecord(work.out_dtype.name, work.shape, work.block_elements, ids)
            records[work.key] = record
            blocks += record.blocks
            kept += _equal_blocks(work, ids)
        counters = executor.counters
    made = _manifest(repo, writer, works, records, None if card is None else card.encode())
    manifest_id = writer.put_record(Manifest.KIND, encode(made))
    writer.flush()
    if memo is not None:
        memo.flush()
    read = {purpose: meter.read_bytes(purpose) - was for purpose, was in before.items()}
    return Executed(made, manifest_id, read["expert"], read["base"], blocks, kept, counters)


def _manifest(
    repo: Repo,
    writer: ObjectWriter,
    works: Works,
    records: dict[str, TensorRecord],
    card: bytes | None,
) -> Manifest:
    """Stores the tensors' records, at once: one by one each would be looked for on its own."""
    plan, base = works.plan, works.base.manifest
    for key in plan.outputs:
        if key not in records:
            records[key] = works.placed(key)[2]
    ids = repo.put_many(writer, list(records.values()))
    merged = {key: (own, records[key]) for key, own in zip(records, ids, strict=True)}
    if not plan.outputs:
        return output.manifest(repo, writer, base, merged, card, plan.out_dtype)
    return stack_output.manifest(repo, writer, plan, works.manifests, merged, card)


def _equal_blocks(work: TensorWork, ids: bytes) -> int:
    """Output blocks that are the base's block."""
    ours = np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES)
    bases = np.frombuffer(work.base_record.block_ids, np.uint8).reshape(-1, ID_BYTES)
    return int((ours == bases).all(axis=1).sum())


def coverage(plan: Plan, plan_id: ObjectId, base: Mapping[str, TensorRecord]) -> Coverage:
    """What the plan's execution realizes: the blocks that are read and applied, by expert."""
    touched = tuple(expert.selection for expert in plan.experts)
    selected = 0
    for expert in plan.experts:
        for key, bits in expert.selection.items():
            if key in base:
                selected += int(selected_blocks(bits, base[key].blocks).sum())
    figures = {
        "applied_blocks": selected,
        "omitted_blocks": plan.omitted_blocks,
        "planned_bytes": plan.cost_bytes,
    }
    return Coverage(plan_id, touched, figures)
