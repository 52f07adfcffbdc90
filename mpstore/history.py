"""What led to a revision: commits with their names in an order that can be read, and one commit in full.

Relies on repository and revisions. Promises: children come before their parents, newest first otherwise; a
commit that is lost or damaged is a warning and an end of that line, never an end of the command.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mpstore import revisions
from mpstore.errors import DamagedError, NotFoundError
from mpstore.ids import ObjectId, short
from mpstore.records.model import Commit, FileEntry, Plan
from mpstore.repository import Repo


@dataclass(frozen=True)
class CommitInfo:
    """A commit with its id and the refs ("heads/base", "tags/v1") that are at it."""

    id: ObjectId
    commit: Commit
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExpertSummary:
    """One expert of a plan: what was selected of it, in blocks and in bytes of physical reads."""

    model: str
    commit: ObjectId
    kind: str
    planned_blocks: int
    planned_bytes: int


@dataclass(frozen=True)
class PlanSummary:
    """A plan in a few figures. `bound` and `relative_bound` are inf where something unmeasured is omitted."""

    id: ObjectId
    operator: str
    policy: str
    base_model: str
    budget_bytes: int | None
    max_error: float | None
    planned_bytes: int
    full_stored_bytes: int
    full_raw_bytes: int
    omitted_blocks: int
    bound: float
    relative_bound: float
    bound_kind: str
    exact: bool
    binding: str
    experts: tuple[ExpertSummary, ...]


@dataclass(frozen=True)
class CommitDetail:
    """A commit and what its manifest holds; raw_bytes is the size of all files, and `lacking` the number of
    tensors that were never fetched (a partial manifest). `plan`: of a merge."""

    info: CommitInfo
    files: tuple[FileEntry, ...]
    tensors: int
    blocks: int
    raw_bytes: int
    lacking: int = 0
    plan: PlanSummary | None = None


def log(repo: Repo, revision: str | None = None, limit: int | None = None) -> tuple[CommitInfo, ...]:
    """The commits that lead to a revision (None: to every branch and tag), at most `limit` of them.

    With a limit no more is read than is told; the order then is that of the commits' times, which puts
    children before parents as far as the clocks that made them agree.
    """
    names = names_at(repo)
    starts = list(names) if revision is None else [revisions.resolve(repo, revision)]
    if limit is None:
        commits = reachable(repo, starts)
        ordered: Iterable[tuple[ObjectId, Commit]] = ((one, commits[one]) for one in topological(commits))
    else:
        ordered = islice(by_time(repo, starts), limit)
    return tuple(CommitInfo(one, commit, names.get(one, ())) for one, commit in ordered)


def names_at(repo: Repo) -> dict[ObjectId, tuple[str, ...]]:
    """Commit -> full names of the branches and tags that are at it. A damaged ref is a warning."""
    found: dict[ObjectId, tuple[str, ...]] = {}
    for name, ref in [*repo.refs.values("heads/").items(), *repo.refs.values("tags/").items()]:
        found[ref.value] = (*found.get(ref.value, ()), name)
    return found


def reachable(repo: Repo, starts: Iterable[ObjectId]) -> dict[ObjectId, Commit]:
    """Every commit that can be reached from `starts` over parents of any role."""
    found: dict[ObjectId, Commit] = {}
    frontier = list(dict.fromkeys(starts))
    seen = set(frontier)
    while frontier:
        loaded = _load(repo, frontier)
        found |= loaded
        parents = [parent.commit for commit in loaded.values() for parent in commit.parents]
        frontier = [one for one in dict.fromkeys(parents) if one not in seen]
        seen.update(frontier)
    return found


def _load(repo: Repo, ids: Sequence[ObjectId]) -> dict[ObjectId, Commit]:
    try:
        return repo.load_many(Commit, ids)
    except (DamagedError, NotFoundError):
        pass
    loaded = {}
    for one in ids:
        try:
            loaded[one] = repo.commit(one)
        except (DamagedError, NotFoundError) as error:
            repo.progress.warn(f"history ends at {short(one)}: {error.message}")
    return loaded


def by_time(repo: Repo, starts: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, Commit]]:
    """The same commits one by one, the newest of those known so far first."""
    frontier = list(dict.fromkeys(starts))
    seen = set(frontier)
    ready: list[tuple[int, ObjectId, Commit]] = []
    while frontier or ready:
        for one, commit in _load(repo, frontier).items():
            heapq.heappush(ready, (-commit.time_ns, one, commit))
        if not ready:
            return
        _, one, commit = heapq.heappop(ready)
        yield one, commit
        parents = dict.fromkeys(parent.commit for parent in commit.parents)
        frontier = [parent for parent in parents if parent not in seen]
        seen.update(frontier)


def topological(commits: dict[ObjectId, Commit]) -> list[ObjectId]:
    """Children before parents; among those that may come next, the newest first, then by id.

    Parents that are not among `commits` are left out.
    """
    waiting = dict.fromkeys(commits, 0)
    for commit in commits.values():
        for parent in {parent.commit for parent in commit.parents}:
            if parent in waiting:
                waiting[parent] += 1
    ready = [(-commits[one].time_ns, one) for one, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, one = heapq.heappop(ready)
        ordered.append(one)
        for parent in {parent.commit for parent in commits[one].parents}:
            if parent in waiting:
                waiting[parent] -= 1
                if waiting[parent] == 0:
                    heapq.heappush(ready, (-commits[parent].time_ns, parent))
    return ordered


def show(repo: Repo, revision: str) -> CommitDetail:
    """One commit with its figures, files and plan."""
    commit_id = revisions.resolve(repo, revision)
    commit = repo.commit(commit_id)
    manifest = repo.manifest(commit.manifest)
    records = repo.tensors(manifest)
    return CommitDetail(
        info=CommitInfo(commit_id, commit, names_at(repo).get(commit_id, ())),
        files=manifest.files,
        tensors=len(manifest.tensors),
        blocks=sum(record.blocks for record in records.values()),
        raw_bytes=sum(entry.size for entry in manifest.files),
        lacking=len(manifest.tensors) - len(records),
        plan=_plan_of(repo, commit),
    )


def _plan_of(repo: Repo, commit: Commit) -> PlanSummary | None:
    plan_id = plan_id_of(commit)
    if plan_id is None:
        return None
    try:
        return summarize(plan_id, repo.plan(plan_id))
    except (DamagedError, NotFoundError) as error:
        repo.progress.warn(f"the merge's plan cannot be read: {error.message}")
        return None


def plan_id_of(commit: Commit) -> ObjectId | None:
    """The id of the plan that a merge executed; None: this was no merge."""
    return _hex_id(commit, "plan")


def coverage_id_of(commit: Commit) -> ObjectId | None:
    """The id of what a merge realized; None: this was no merge."""
    return _hex_id(commit, "coverage")


def _hex_id(commit: Commit, key: str) -> ObjectId | None:
    try:
        found = bytes.fromhex(str(commit.how.get(key, "")))
    except ValueError:
        raise DamagedError(f"the commit's {key!r} is not an id") from None
    return found or None


def summarize(plan_id: ObjectId, plan: Plan) -> PlanSummary:
    """A plan in figures."""
    return PlanSummary(
        id=plan_id,
        operator=plan.operator,
        policy=plan.policy,
        base_model=plan.base_model,
        budget_bytes=plan.budget_bytes,
        max_error=plan.max_error,
        planned_bytes=plan.cost_bytes,
        full_stored_bytes=plan.full_stored_bytes,
        full_raw_bytes=plan.full_raw_bytes,
        omitted_blocks=plan.omitted_blocks,
        bound=plan.bound,
        relative_bound=plan.relative_bound,
        bound_kind=plan.bound_kind,
        exact=plan.exact,
        binding=plan.binding,
        experts=tuple(
            ExpertSummary(
                model=expert.model,
                commit=expert.commit,
                kind=expert.kind,
                planned_blocks=sum(
                    int.from_bytes(bits, "big").bit_count() for bits in expert.selection.values()
                ),
                planned_bytes=expert.cost_bytes,
            )
            for expert in plan.experts
        ),
    )


_EDGES = {"previous": "", "base": ' [style=dashed, label="base"]', "expert": ' [color=blue, label="expert"]'}


def lineage_dot(infos: Sequence[CommitInfo]) -> str:
    """The lineage as a graph in DOT, for `dot -Tsvg`: an arrow from each commit to what it was made from."""
    shown = {info.id for info in infos}
    lines = ["digraph lineage {", "  rankdir=BT;", '  node [shape=box, fontname="monospace", fontsize=10];']
    for info in infos:
        names = [name.partition("/")[2] for name in info.refs]
        parts = [*names, short(info.id), info.commit.message.partition("\n")[0][:60]]
        bold = ", style=bold" if names else ""
        lines.append(f'  "{info.id.hex()}" [label={_quoted(parts)}{bold}];')
    for info in infos:
        edges = [parent for parent in info.commit.parents if parent.commit in shown]
        lines += [
            f'  "{info.id.hex()}" -> "{edge.commit.hex()}"{_EDGES.get(edge.role, "")};' for edge in edges
        ]
    return "\n".join([*lines, "}", ""])


def _quoted(parts: Sequence[str]) -> str:
    """A DOT string of lines; what is not printable is shown as its escape."""
    lines = (
        "".join(char if char.isprintable() else repr(char)[1:-1] for char in part) for part in parts if part
    )
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


__all__ = [
    "CommitDetail",
    "CommitInfo",
    "PlanSummary",
    "lineage_dot",
    "log",
    "reachable",
    "show",
    "topological",
]
