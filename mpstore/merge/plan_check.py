"""Whether a stored plan still says what a merge would do.

Relies on repository and plan_cost. Promises: reads refs, records and index columns, never a block; refuses
with the reason, never repairs.
"""

from __future__ import annotations

from mpstore.errors import BudgetError, ConflictError, MpError, NotFoundError
from mpstore.ids import short
from mpstore.merge.plan_cost import selection_cost
from mpstore.records.model import Plan
from mpstore.repository import Repo


def check_plan_current(repo: Repo, plan: Plan) -> None:
    """Refuse a plan whose inputs are not what they were when it was made.

    Raises ConflictError (a branch or tag that it was made from has moved), NotFoundError (a commit is gone),
    DamagedError (a block is lost), BudgetError (repacked, the selection now costs more to read). A replay
    asks for `check_inputs` alone.
    """
    check_inputs(repo, plan)
    _check_name(repo, plan.base_model, plan.base_commit)
    for expert in plan.experts:
        _check_name(repo, expert.model, expert.commit)
    cost = selection_cost(repo, plan)
    if cost > plan.cost_bytes:
        raise BudgetError(
            f"the plan promises to read {plan.cost_bytes} bytes; as the store is packed now it takes {cost}",
            hint="plan again: `mp plan` with the same recipe and budget",
        )


def check_inputs(repo: Repo, plan: Plan) -> None:
    """Refuse a plan where a commit that it reads is gone (NotFoundError) or is not what the plan says
    (ConflictError): the part that every execution asks for, a replay's too."""
    models = [(plan.base_model, plan.base_commit, plan.base_manifest)]
    models += [(expert.model, expert.commit, expert.manifest) for expert in plan.experts]
    for name, commit, manifest in models:
        called = name or short(commit)
        if not repo.objects.has(commit):
            raise NotFoundError(
                f"the plan reads {called} at commit {short(commit)}, which is no longer in the store",
                hint="plan again",
            )
        found = repo.commit(commit)
        if found.manifest != manifest:
            raise ConflictError(
                f"commit {short(commit)} of {called} has manifest {short(found.manifest)}, the plan says "
                f"{short(manifest)}",
                hint="plan again",
            )


def _check_name(repo: Repo, name: str, commit: bytes) -> None:
    """A branch or tag of that name must still point where it did; other names (ids) cannot move."""
    for kind in ("heads", "tags"):
        try:
            ref = repo.refs.read(f"{kind}/{name}")
        except MpError:  # no name for a ref: an id, a directory, hf://...
            return
        if ref is not None:
            if ref.value != commit:
                raise ConflictError(
                    f"{name} has moved from {short(commit)} to {short(ref.value)} since the plan was made",
                    hint=f"plan again, or name the commit itself: {short(commit)}",
                )
            return
