"""A merge from a recipe to a commit: the one place that composes models, planner, executor and refs.

Relies on every module of this room and on repository. Promises: everything that can be wrong with a request
is said before an expert is read; the plan is stored before it is executed; the branch moves last, by
compare-and-swap on what it was when the merge began.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mpstore.errors import DamagedError, IncompatibleError, NotFoundError, UsageError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, to_hex
from mpstore.merge import budget as budgets
from mpstore.merge import gather, planner
from mpstore.merge.gather import Source
from mpstore.merge.gather_base import weight_bytes
from mpstore.merge.models import Models
from mpstore.merge.plan_check import check_inputs
from mpstore.merge.plan_inputs import Limits as PlanLimits
from mpstore.merge.plan_inputs import PlanInputs
from mpstore.merge.planner import Planned
from mpstore.merge.recipe import Recipe
from mpstore.merge.recipe_draft import where
from mpstore.merge.results import MergeResult, merged_json, plan_json
from mpstore.records.encoding import encode
from mpstore.records.model import Coverage, Parent, Plan
from mpstore.repository import Repo
from mpstore.store import ObjectWriter

if TYPE_CHECKING:
    from mpstore.merge.execute.execution import Executed
    from mpstore.merge.execute.limits import Limits

Hook = Callable[[Mapping[str, Any]], None]


class Supplier(Protocol):
    """Brings what is elsewhere."""

    def supply(self, plan: Plan) -> Plan:
        """Fetch what the plan selected of experts that are elsewhere; the plan that reads it here."""
        ...

    @property
    def received_bytes(self) -> int:
        """What came over the network since the merge was asked for."""
        ...


@dataclass(frozen=True)
class Request:
    """What to merge and how little to read. `budget`: "2GiB", "25%"; `max_error`: a relative error."""

    recipe: Recipe
    budget: str | None = None
    max_error: float | None = None
    seed: int = 0
    policy: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A request planned: `inputs` and `planned` are what a curve is drawn from."""

    plan: Plan
    inputs: PlanInputs
    planned: Planned


def prepare(
    repo: Repo, request: Request, models: Models, progress: Progress = silent, *, fetch: bool = False
) -> Prepared:
    """Resolve the models, gather what is known of them, decide. No block of an expert is read.

    `fetch`: bring what a merge reads whole and the store lacks (a base that is elsewhere), once what headers
    can show to be wrong has been looked for; without it the plan is made from headers.
    """
    recipe = request.recipe
    for name in (recipe.base, *recipe.experts):
        with _named(recipe, name):
            models.expect(name)
    with _named(recipe, recipe.base):
        base = models.find(recipe.base)
    if fetch and not base.whole:
        _check_headers(repo, request, models, base)
        base = models.fetch(base)
    models.take(recipe.experts, base)
    experts = []
    for name in recipe.experts:
        with _named(recipe, name):
            experts.append(models.find(name, base.commit, whole=recipe.stacked))
    if fetch:
        experts = [models.fetch(expert) for expert in experts]
    inputs = gather.gather(repo, recipe, base, experts, seed=request.seed)
    for note in inputs.notes:
        progress.warn(note)
    raw = sum(expert.raw_bytes for expert in inputs.experts)
    limits = PlanLimits(
        budget_bytes=None if request.budget is None else budgets.parse_budget(request.budget, raw),
        max_error=request.max_error,
        policy=request.policy,
        **({} if request.memory_bytes is None else {"memory_bytes": request.memory_bytes}),
    )
    planned = planner.plan_with_order(inputs, limits)
    return Prepared(planned.plan, inputs, planned)


@contextmanager
def _named(recipe: Recipe, model: str) -> Iterator[None]:
    """A model that is not found, or is none, is said with the recipe's line that names it."""
    try:
        yield
    except (NotFoundError, UsageError, IncompatibleError, DamagedError) as error:
        error.say(where(recipe.lines.get(model)) + error.message)
        raise


def _check_headers(repo: Repo, request: Request, models: Models, base: Source) -> None:
    """Say what does not fit before weights are fetched. A directory is left for later: it is added against
    the base."""
    experts = [models.headers(name, request.recipe.stacked) for name in request.recipe.experts]
    known = [expert for expert in experts if expert is not None]
    if len(known) == len(experts):
        gather.gather(repo, request.recipe, base, known, seed=request.seed)


def store_plan(repo: Repo, plan: Plan) -> ObjectId:
    """Keep a plan, so that `merge --plan` finds it."""
    with repo.objects.writer("plan") as writer:
        plan_id = writer.put_record(Plan.KIND, encode(plan))
        writer.finish()
    return plan_id


def expert_raw_bytes(repo: Repo, plan: Plan) -> tuple[int, ...]:
    """Of each expert, what reading its weights whole and unencoded takes; 0 of one that is the base."""
    return tuple(
        0
        if expert.manifest == plan.base_manifest and not plan.outputs
        else weight_bytes(repo.manifest(expert.manifest))
        for expert in plan.experts
    )


def merge(
    repo: Repo,
    plan: Plan,
    branch: str,
    *,
    message: str = "",
    author: str = "",
    limits: Limits | None = None,
    progress: Progress = silent,
    before: Hook | None = None,
    after: Hook | None = None,
    supplier: Supplier | None = None,
) -> MergeResult:
    """Execute a plan and commit the result on `branch`.

    `before` hears of the plan once it is stored (and may raise), `after` of the result. ConflictError: the
    branch moved meanwhile; what was made is found again by the next try.
    """
    from mpstore.merge.execute import execution  # a plan does without

    started = time.monotonic()
    tip = repo.tip(branch)
    check_inputs(repo, plan)
    raw_bytes = expert_raw_bytes(repo, plan)
    with repo.objects.writer(f"merge {branch}") as writer:
        plan_id = writer.put_record(Plan.KIND, encode(plan))
        writer.flush()
        if before is not None:
            before({"branch": branch, **plan_json(plan, plan_id, raw_bytes)})
        if supplier is not None:
            plan, plan_id = _supplied(writer, plan, plan_id, supplier)
        done = execution.execute(repo, writer, plan, limits=limits, card=card(repo, plan), progress=progress)
        commit = repo.advance(
            writer,
            branch,
            tip,
            manifest=done.manifest_id,
            parents=_parents(plan),
            author=author,
            message=message or f"{plan.operator} of {', '.join(expert.model for expert in plan.experts)}",
            how=_how(repo, writer, plan, plan_id),
        )
        summary = writer.finish()
    _report(plan, done, progress)
    seconds = round(time.monotonic() - started, 3)
    received = 0 if supplier is None else supplier.received_bytes
    result = MergeResult(branch, commit, done, plan, plan_id, raw_bytes, summary, seconds, received)
    if after is not None:
        after(merged_json(result))
    return result


def _supplied(
    writer: ObjectWriter, plan: Plan, plan_id: ObjectId, supplier: Supplier
) -> tuple[Plan, ObjectId]:
    """The plan once the weights that it names elsewhere are in the store: with the commits that hold them."""
    supplied = supplier.supply(plan)
    if supplied is plan:
        return plan, plan_id
    supplied_id = writer.put_record(Plan.KIND, encode(supplied))
    for expert in supplied.experts:
        writer.pin_commit(expert.commit)
    return supplied, supplied_id


def _how(repo: Repo, writer: ObjectWriter, plan: Plan, plan_id: ObjectId) -> dict[str, Any]:
    """What the commit says of how it was made; stores the coverage record."""
    from mpstore.merge.execute import execution

    base_records = repo.tensors(repo.manifest(plan.base_manifest))
    coverage = execution.coverage(plan, plan_id, base_records)
    return {
        "verb": "merge",
        "plan": to_hex(plan_id),
        "coverage": to_hex(writer.put_record(Coverage.KIND, encode(coverage))),
        "recipe": plan.recipe,
        "figures": dict(coverage.figures),
    }


def _parents(plan: Plan) -> list[Parent]:
    return [Parent("base", plan.base_commit), *(Parent("expert", one.commit) for one in plan.experts)]


def card(repo: Repo, plan: Plan) -> str:
    """The model card; a function of the plan alone, so that a replay gives the same file."""
    from mpstore.merge import modelcard

    return modelcard.render(repo, plan)


def _report(plan: Plan, done: Executed, progress: Progress) -> None:
    """NaN and infinities that came by, tensor by tensor."""
    for key, counts in done.counters.nonfinite.items():
        found = []
        for label, count in counts.items():
            who = plan.base_model if label == "base" else plan.experts[int(label)].model
            found.append(f"{count} in {who}")
        progress.warn(f"tensor {key!r} has NaN or infinite values: {', '.join(found)}")


@dataclass(frozen=True)
class Replayed:
    """A replay. `same`: the manifest is the one of the commit."""

    plan: ObjectId
    manifest: ObjectId
    replayed_manifest: ObjectId
    seconds: float

    @property
    def same(self) -> bool:
        return self.manifest == self.replayed_manifest

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp replay --json`."""
        return {
            "plan": to_hex(self.plan),
            "manifest": to_hex(self.manifest),
            "replayed_manifest": to_hex(self.replayed_manifest),
            "same": self.same,
            "seconds": self.seconds,
        }
