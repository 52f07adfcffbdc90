"""Pulling from and pushing to the Hub, as the Python interface offers it.

Relies on remotes, revisions and hooks. Promises: see the functions of `remotes` that these compose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpstore import revisions
from mpstore.errors import NotFoundError, UsageError
from mpstore.events import Progress, silent
from mpstore.remotes import address as addresses
from mpstore.remotes.hub import Hub
from mpstore.remotes.origin import Origin, origin_of
from mpstore.remotes.pull import PullResult, pull
from mpstore.remotes.pull_plan import PullPlan, look
from mpstore.remotes.push import PushResult, push
from mpstore.repository import Repo


@dataclass(frozen=True)
class Remote:
    """A branch that was pulled, and where from."""

    branch: str
    origin: Origin


def remotes(repo: Repo) -> tuple[Remote, ...]:
    """The branches with an origin, by name; of a branch the newest commit that was pulled counts."""
    found = []
    for name in sorted(repo.refs.names("heads")):
        branch = name.removeprefix("heads/")
        origin = branch_origin(repo, branch)
        if origin is not None:
            found.append(Remote(branch, origin))
    return tuple(found)


def branch_origin(repo: Repo, branch: str) -> Origin | None:
    """The origin of the newest pulled commit of a branch, walking along its previous commits."""
    commit_id = repo.tip(branch)
    while commit_id is not None:
        commit = repo.commit(commit_id)
        origin = origin_of(commit)
        if origin is not None:
            return origin
        commit_id = next((parent.commit for parent in commit.parents if parent.role == "previous"), None)
    return None


@dataclass(frozen=True)
class Wanted:
    """What a pull was asked for, defaults filled in from the branch's origin."""

    address: addresses.Address
    branch: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]


def wanted(
    repo: Repo, what: str, branch: str | None, include: Sequence[str], exclude: Sequence[str]
) -> Wanted:
    """`what` is hf://ORG/NAME[@REV], or a branch that was pulled before."""
    if addresses.looks_remote(what):
        address = addresses.parse(what)
        name = branch or _own_branch(repo, address)
        repo.refs.check_name(f"heads/{name}")
        return Wanted(address, name, tuple(include), tuple(exclude))
    origin = branch_origin(repo, what) if repo.tip(what) is not None else None
    if origin is None:
        if repo.tip(what) is None:
            meant = f"hf://{what}" if what.count("/") == 1 else "hf://ORG/NAME"
            raise NotFoundError(f"{what!r} is no branch here", hint=f"mp pull {meant} pulls a model")
        raise UsageError(
            f"branch {what} was not pulled: it has no origin", hint="mp pull hf://ORG/NAME --branch NAME"
        )
    if branch is not None and branch != what:
        raise UsageError(f"--branch {branch}: pulling {what} again moves {what}", hint="leave --branch out")
    return Wanted(origin.address, what, tuple(include) or origin.include, tuple(exclude) or origin.exclude)


def _own_branch(repo: Repo, address: addresses.Address) -> str:
    """The branch of a pull that names none: called as the model, and no other model's."""
    name = address.repo_id.rpartition("/")[2]
    if repo.tip(name) is not None:
        origin = branch_origin(repo, name)
        if origin is None or origin.repo_id != address.repo_id:
            holds = "was not pulled" if origin is None else f"holds {origin.address}"
            raise UsageError(
                f"branch {name} {holds}: where does {address} go?",
                hint=f"mp pull {address} --branch NAME ({name} itself would do)",
            )
    return name


def pull_model(
    repo: Repo,
    hub: Hub,
    what: Wanted,
    *,
    base: str | None = None,
    message: str = "",
    author: str = "",
    threads: int | None = None,
    progress: Progress = silent,
) -> PullResult:
    return pull(
        repo,
        hub,
        what.address,
        what.branch,
        base=None if base is None else revisions.resolve(repo, base),
        base_name=base,
        include=what.include,
        exclude=what.exclude,
        message=message or f"pull {what.address}",
        author=author,
        progress=progress,
        threads=threads,
    )


def look_at_model(repo: Repo, hub: Hub, what: Wanted) -> PullPlan:
    return look(repo, hub, what.address, what.branch, what.include, what.exclude)


def push_revision(
    repo: Repo,
    hub: Hub,
    revision: str,
    target: str,
    *,
    private: bool = False,
    branch: str | None = None,
    message: str = "",
    progress: Progress = silent,
) -> PushResult:
    commit = revisions.resolve(repo, revision)
    return push(
        repo,
        hub,
        commit,
        addresses.parse(target),
        private=private,
        branch=branch,
        message=message,
        progress=progress,
    )
