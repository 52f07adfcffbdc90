"""Merges, plans and replays as the Python interface offers them.

Relies on the merge room. Promises: everything that can be wrong with the words is said before anything is
read; a plan that is asked for is stored, unless the caller says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mpstore import heap, revisions
from mpstore.api import names
from mpstore.api.remote_models import RemoteModels
from mpstore.errors import (
    AmbiguousError,
    MpError,
    NotFoundError,
    RecipeError,
    StorageError,
    UsageError,
)
from mpstore.events import Progress
from mpstore.ids import ObjectId, record_id, short
from mpstore.merge import budget as budgets
from mpstore.merge import curve as curves
from mpstore.merge import engine, models, results
from mpstore.merge import recipe as recipes
from mpstore.merge.engine import Prepared, Replayed, Request
from mpstore.merge.execute.limits import Limits
from mpstore.merge.expectation import bound_if_compared
from mpstore.merge.plan_check import check_inputs, check_plan_current
from mpstore.merge.plan_network import ToFetch, to_fetch
from mpstore.merge.recipe_draft import in_file, is_placed
from mpstore.pipeline import thread_count
from mpstore.records.encoding import encode
from mpstore.records.model import Plan
from mpstore.repository import Repo

Model = str | tuple[str, Mapping[str, Any]]
_MAX_RECIPE_BYTES = 4 << 20  # the recipe's room allows a million characters
_WORTH_COMPARING = 0.9


@dataclass(frozen=True)
class Words:
    """What to merge, as it was said: a recipe, or base, experts and operator; or the id of a stored plan."""

    recipe: str | PathLike[str] | None = None
    base: str | None = None
    experts: Sequence[Model] = ()
    operator: str | None = None
    parameters: Sequence[str] | Mapping[str, Any] = ()
    out_dtype: str | None = None
    budget: int | str | None = None
    max_error: float | str | None = None
    seed: int | None = None
    policy: str | None = None
    plan: str | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class CurvePoint:
    """The bound at one budget; inf while something that nobody measured is left out. `expected_error` is
    relative, too: what the error usually comes to (NaN: nothing is known). `this_plan`: the plan whose curve
    this is."""

    budget_bytes: int
    planned_bytes: int
    bound: float
    relative_bound: float
    expected_error: float
    exact: bool
    this_plan: bool


@dataclass(frozen=True)
class Tighter:
    """Experts that were never compared with each other, and about the bound if they were. `all_based`: they
    are all the branches that were added with a base."""

    experts: tuple[str, ...]
    relative_bound: float
    all_based: bool


@dataclass(frozen=True)
class PlanResult:
    """A plan, its id, and each expert's weights in bytes, whole and unencoded. `fetched`: what executing it
    brings over the network. `curve` and `if_compared` are known only when it was made just now."""

    id: ObjectId
    plan: Plan
    raw_bytes: tuple[int, ...]
    fetched: ToFetch
    curve: tuple[CurvePoint, ...] = ()
    if_compared: Tighter | None = None

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp plan --json`."""
        document = results.plan_json(self.plan, self.id, self.raw_bytes)
        network = {
            "base_network_bytes": self.fetched.base_bytes,
            "expert_network_bytes": self.fetched.expert_bytes,
        }
        compared = None if self.if_compared is None else vars(self.if_compared)
        curve = [vars(point) for point in self.curve]
        return {**document, **network, "if_compared": compared, "curve": curve}


def plan(repo: Repo, words: Words, limits: Limits, store: bool, progress: Progress) -> PlanResult:
    """Decide what a merge would read; or look a stored plan up."""
    if words.plan is not None:
        plan_id = find_plan(repo, words.plan)
        known_plan = repo.plan(plan_id)
        check_inputs(repo, known_plan)
        raw_bytes = engine.expert_raw_bytes(repo, known_plan)
        return PlanResult(plan_id, known_plan, raw_bytes, to_fetch(repo, known_plan))
    remote = RemoteModels(repo, "", progress, limits.threads)
    with _named(words), _models(repo, words, limits, progress, remote) as known:
        prepared = engine.prepare(repo, _request(words, limits), known, progress)
    plan_id = _kept(repo, prepared.plan, progress) if store else _id_of(prepared.plan)
    raw_bytes = engine.expert_raw_bytes(repo, prepared.plan)
    fetched = to_fetch(repo, prepared.plan)
    return PlanResult(plan_id, prepared.plan, raw_bytes, fetched, _curve(prepared), _tighter(repo, prepared))


def _kept(repo: Repo, made: Plan, progress: Progress) -> ObjectId:
    """Stored, but in a repository that cannot be written to, where what was asked is answered, too."""
    try:
        return engine.store_plan(repo, made)
    except StorageError as error:
        progress.warn(f"the plan is not stored, so that mp merge --plan will not find it: {error.message}")
        return _id_of(made)


def _id_of(made: Plan) -> ObjectId:
    return record_id(Plan.KIND, encode(made))


def merge(
    repo: Repo,
    words: Words,
    branch: str,
    limits: Limits,
    *,
    message: str,
    author: str,
    before: engine.Hook,
    after: engine.Hook,
    progress: Progress,
) -> results.MergeResult:
    """Plan (or look the plan up), execute, commit."""
    repo.refs.check_name(f"heads/{branch}")
    remote = RemoteModels(repo, author, progress, limits.threads)
    with _models(repo, words, limits, progress, remote) as known:
        if words.plan is not None:
            decided = repo.plan(find_plan(repo, words.plan))
            check_inputs(repo, decided)
            decided = remote.completed(decided)
            check_plan_current(repo, decided)
        else:
            with _named(words):
                decided = engine.prepare(repo, _request(words, limits), known, progress, fetch=True).plan
        return engine.merge(
            repo,
            decided,
            branch,
            message=message,
            author=author,
            limits=limits,
            progress=progress,
            before=before,
            after=after,
            supplier=remote,
        )


def replayed(repo: Repo, revision: str, limits: Limits, progress: Progress) -> Replayed:
    """Execute a merge's plan again and compare."""
    from mpstore.merge import replay

    return replay.replay(repo, revisions.resolve(repo, revision), limits=limits, progress=progress)


def limits_of(repo: Repo, threads: int | None, memory_bytes: int | None) -> Limits:
    """How much of the machine a merge may use: as asked, as configured, or what is there."""
    count, streamed = thread_count(threads, repo.config.threads), memory_bytes or repo.config.memory_bytes
    whole = memory_bytes or max(streamed, heap.physical_bytes() // 2)
    return Limits(threads=count, memory_bytes=streamed, tensor_bytes=whole)


def find_plan(repo: Repo, prefix: str) -> ObjectId:
    """The plan whose id begins with `prefix`; or the plan of a merge commit."""
    hexadecimal = len(prefix) >= revisions.MIN_PREFIX_DIGITS and set(prefix.lower()) <= set(
        "0123456789abcdef"
    )
    found = repo.objects.with_prefix(prefix, Plan.KIND) if hexadecimal else []
    if not found and hexadecimal and repo.objects.refresh():
        found = repo.objects.with_prefix(prefix, Plan.KIND)
    if len(found) > 1:
        raise AmbiguousError(f"{prefix} fits {len(found)} plans: {', '.join(map(short, found))}")
    if not found:
        raise NotFoundError(
            f"no stored plan {prefix!r}",
            hint="mp plan … stores one; mp gc removes it once its models are gone: plan again",
        )
    return found[0]


def _request(words: Words, limits: Limits) -> Request:
    error = words.max_error
    return Request(
        recipe=_recipe(words),
        budget=None if words.budget is None else str(words.budget),
        max_error=budgets.parse_max_error(error) if isinstance(error, str) else error,
        seed=words.seed or 0,
        policy=words.policy or "",
        memory_bytes=limits.tensor_bytes,
    )


def _recipe(words: Words) -> recipes.Recipe:
    if words.recipe is not None:
        recipe, file = recipes.from_yaml(_recipe_text(words.recipe)), _file(words)
        notes = recipe.notes if file is None else tuple(in_file(note, file) for note in recipe.notes)
        return replace(recipe, notes=notes)
    if words.operator is None:
        raise UsageError("no operator", hint="name one with --op, or give a recipe")
    if not words.experts:
        raise UsageError("no expert", hint="name some with --expert, or give a recipe")
    return recipes.from_flags(
        words.base, words.experts, words.operator, words.parameters, out_dtype=words.out_dtype
    )


@contextmanager
def _named(words: Words) -> Iterator[None]:
    """What is wrong with a recipe is said with its file's name."""
    try:
        yield
    except MpError as error:
        file = _file(words)
        if file is not None and (isinstance(error, RecipeError) or is_placed(error.message)):
            error.say(in_file(error.message, file))
        raise


def _file(words: Words) -> str | None:
    """The name of the recipe's file; None: it is none, but flags or a text."""
    if words.recipe is None or (isinstance(words.recipe, str) and "\n" in words.recipe):
        return None
    return Path(words.recipe).name


def _recipe_text(recipe: str | PathLike[str]) -> str:
    """A recipe's text: of the file, or as it is where it has more than one line."""
    if isinstance(recipe, str) and "\n" in recipe:
        return recipe
    try:
        with open(recipe, "rb") as stream:
            data = stream.read(_MAX_RECIPE_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise NotFoundError(f"no recipe {recipe}", hint="name a YAML file, or say it with flags") from None
    except OSError as error:  # one of reading does not know the name
        raise OSError(error.errno, error.strerror, str(recipe)) from error
    if len(data) > _MAX_RECIPE_BYTES:  # a wrong name, perhaps of a model: not to be read into memory
        raise UsageError(f"{recipe} has more than {_MAX_RECIPE_BYTES} bytes, and no recipe has")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{recipe} is not UTF-8 text") from None


def _models(
    repo: Repo, words: Words, limits: Limits, progress: Progress, remote: RemoteModels
) -> models.Models:
    return models.Models(
        repo,
        resolvers=(remote,),
        directory=words.directory,
        threads=limits.threads,
        progress=progress,
    )


def _curve(prepared: Prepared) -> tuple[CurvePoint, ...]:
    """The bound over budgets: round shares of the raw size up to what reads everything, and the plan's."""
    planned, made = prepared.planned, prepared.plan
    everything = int(planned.ordering.cost.sum())
    own = made.cost_bytes if made.budget_bytes is None or made.binding == "max_error" else made.budget_bytes
    budgets = curves.round_budgets(everything, made.full_raw_bytes)
    if not made.exact:
        budgets = curves.rising([*budgets[np.abs(budgets - own) > 1], own])
    found = curves.curve(planned, budgets=budgets)
    points = [
        CurvePoint(
            budget_bytes=int(found.budget_bytes[number]),
            planned_bytes=int(found.cost_bytes[number]),
            bound=float(found.bound[number]),
            relative_bound=float(found.relative_bound[number]),
            expected_error=float(found.expected_error[number]),
            exact=int(found.cost_bytes[number]) == everything,
            this_plan=False,
        )
        for number in range(len(budgets))
    ]
    if not made.exact:  # which also fills the gap that its order leaves
        at = int(np.searchsorted(budgets, own))
        points[at] = replace(
            points[at],
            planned_bytes=made.cost_bytes,
            bound=made.bound,
            relative_bound=made.relative_bound,
            exact=False,
            this_plan=True,
        )
    return tuple(points)


def _tighter(repo: Repo, prepared: Prepared) -> Tighter | None:
    """What comparing the experts would be worth, if anything."""
    inputs, planned = prepared.inputs, prepared.planned
    uncompared = [inputs.experts[i].model for i in inputs.uncompared]
    if not uncompared or planned.plan.exact or not math.isfinite(planned.plan.bound):
        return None
    try:
        for name in uncompared:
            revisions.resolve(
                repo, name
            )  # a directory, or a model of the Hub, cannot be compared by its name
    except MpError:
        return None
    bound = bound_if_compared(planned.problem, planned.selected)
    if bound >= _WORTH_COMPARING * planned.plan.bound:
        return None
    return Tighter(
        tuple(uncompared),
        planned.problem.certificate.relative(bound),
        sorted(uncompared) == sorted(names.based(repo)),
    )
