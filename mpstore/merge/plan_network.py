"""What executing a plan brings over the network: a base that is elsewhere whole, of experts what is selected.

Relies on stored_header and gather_adapter. Promises: records and headers are read, no block of a tensor; what
earlier merges fetched counts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpstore.ids import ObjectId
from mpstore.merge.elsewhere import all_tensors
from mpstore.merge.gather_adapter import adapter_targets
from mpstore.merge.stored_header import lacking_tensors
from mpstore.records.model import Plan, PlanExpert
from mpstore.repository import Repo
from mpstore.safetensors_file import TensorInfo


@dataclass(frozen=True)
class ToFetch:
    """Bytes of tensors; headers are here already."""

    base_bytes: int
    expert_bytes: int


def to_fetch(repo: Repo, plan: Plan) -> ToFetch:
    """Of a stack's experts everything counts, since layers are stacked from whole models."""
    base = sum(tensor.data_bytes for tensor in _lacking(repo, plan.base_manifest).values())
    return ToFetch(base, sum(_expert_bytes(repo, plan, expert) for expert in plan.experts))


def _lacking(repo: Repo, manifest: ObjectId) -> Mapping[str, TensorInfo]:
    found = repo.manifest(manifest)
    return lacking_tensors(repo, found) if found.partial else {}


def _expert_bytes(repo: Repo, plan: Plan, expert: PlanExpert) -> int:
    lacking = _lacking(repo, expert.manifest)
    if not lacking or expert.manifest == plan.base_manifest:
        return 0
    keys = set(expert.selection)
    if plan.outputs:
        keys = set(lacking)
    elif expert.kind == "lora":
        base = all_tensors(repo, repo.manifest(plan.base_manifest))
        targets, _ = adapter_targets(repo, repo.manifest(expert.manifest), base, expert.model)
        keys = {source for key in expert.selection for source in targets[key].sources}
    return sum(tensor.data_bytes for key, tensor in lacking.items() if key in keys)
