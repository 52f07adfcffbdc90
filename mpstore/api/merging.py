"""Merges, plans and replays as the Python interface offers them.

Relies on the merge room. Promises: everything that can be wrong with the words is said before anything is
read; a plan that is asked for is stored, unless the caller says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from mpstore import heap, revisions
from mpstore.api.planned import PlanResult, curve_of, tighter
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
from mpstore.merge import engine, models, results
from mpstore.merge import recipe as recipes
from mpstore.merge.engine import Replayed, Request
from mpstore.merge.execute.limits import Limits
from mpstore.merge.plan_check import check_inputs, check_plan_current
from mpstore.merge.plan_network import to_fetch
from mpstore.merge.recipe_draft import in_file, is_placed
from mpstore.pipeline import thread_count
from mpstore.records.encoding import encode
from mpstore.records.model import Plan
from mpstore.repository import Repo

Model = str | tuple[str, Mapping[str, Any]]
_MAX_RECIPE_BYTES = 4 << 20  # the recipe's room allows a million characters


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
    return PlanResult(plan_id, prepared.plan, raw_bytes, fetched, curve_of(prepared), tighter(repo, prepared))


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
        budget=None if words.budget is None else budgets.budget_text(words.budget),
        max_error=budgets.parse_max_error(error) if isinstance(error, str) else error,
        seed=int(words.seed or 0),
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
