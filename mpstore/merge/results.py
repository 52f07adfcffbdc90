"""What `mp plan` and `mp merge` answer: the documents of DESIGN §11, bytes and seconds.

Relies on records. Promises: the keys are the contract; a figure that is not known is left out of a plan's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpstore.ids import ObjectId, to_hex
from mpstore.records.model import Plan
from mpstore.store import WriteSummary

if TYPE_CHECKING:
    from mpstore.merge.execute.execution import Executed


@dataclass(frozen=True)
class MergeResult:
    """A merge that was committed. `raw_bytes`: of each expert, its weights whole and unencoded.
    `received_bytes`: what came over the network for it."""

    branch: str
    commit: ObjectId
    executed: Executed
    plan: Plan
    plan_id: ObjectId
    raw_bytes: tuple[int, ...]
    summary: WriteSummary
    seconds: float
    received_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp merge --json`."""
        return merged_json(self)


def merged_json(result: MergeResult) -> dict[str, Any]:
    """A merge as a document. `reused_blocks`: output blocks that were in the store before this run."""
    plan, done = result.plan, result.executed
    return {
        "branch": result.branch,
        "commit": to_hex(result.commit),
        "manifest": to_hex(done.manifest_id),
        **_planned(plan, result.plan_id, result.raw_bytes),
        "expert_read_bytes": done.expert_read_bytes,
        "base_read_bytes": done.base_read_bytes,
        "written_bytes": result.summary.stored_bytes,
        "new_blocks": done.new_blocks,
        "reused_blocks": done.blocks - done.new_blocks,
        "received_bytes": result.received_bytes,
        "seconds": result.seconds,
    }


def _planned(plan: Plan, plan_id: ObjectId, raw_bytes: Sequence[int]) -> dict[str, Any]:
    return {
        "plan": to_hex(plan_id),
        "operator": plan.operator,
        "experts": [
            {
                "model": expert.model,
                "commit": to_hex(expert.commit),
                "manifest": to_hex(expert.manifest),
                "kind": expert.kind,
                "params": dict(expert.params),
                "planned_bytes": expert.cost_bytes,
                "raw_bytes": raw,
            }
            for expert, raw in zip(plan.experts, raw_bytes, strict=True)
        ],
        "budget_bytes": plan.budget_bytes,
        "full_raw_bytes": plan.full_raw_bytes,
        "full_stored_bytes": plan.full_stored_bytes,
        "planned_bytes": plan.cost_bytes,
        "omitted_blocks": plan.omitted_blocks,
        "bound": plan.bound,
        "bound_kind": plan.bound_kind,
        "exact": plan.exact,
    }


def plan_json(plan: Plan, plan_id: ObjectId, raw_bytes: Sequence[int]) -> dict[str, Any]:
    """A plan as far as it is known before it runs; `raw_bytes` of each expert, as in `MergeResult`."""
    return {
        **_planned(plan, plan_id, raw_bytes),
        "base": plan.base_model,
        "policy": plan.policy,
        "binding": plan.binding,
        "relative_bound": plan.relative_bound,
        "max_error": plan.max_error,
        "base_bytes": plan.base_cost_bytes,
        "fallbacks": dict(plan.fallbacks),
        "seed": plan.seed,
    }
