"""What a pull would bring: asked of the Hub, compared with the store.

Relies on hub and known. Promises: nothing is written, no weights are read; names that leave their directory
and models without safetensors are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mpstore.checkpoint_dir import SUFFIX, check_path, check_weights
from mpstore.errors import UsageError
from mpstore.ids import ObjectId
from mpstore.remotes.address import Address
from mpstore.remotes.hub import Hub
from mpstore.remotes.known import KnownFiles, tips
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.origin import origin_of
from mpstore.repository import Repo


@dataclass(frozen=True)
class PullPlan:
    """What a pull would bring: every file, of which the store lacks the bytes, and which commits have the
    others. `current`: the branch is at this very commit."""

    branch: str
    model: HubModel
    files: tuple[HubFile, ...]
    lacking: tuple[HubFile, ...]
    here: Mapping[HubFile, ObjectId]
    current: bool

    @property
    def lacking_bytes(self) -> int:
        return sum(file.size for file in self.lacking)


def chosen(files: Sequence[HubFile], include: Sequence[str], exclude: Sequence[str]) -> list[HubFile]:
    """Files whose path fits a glob of `include` (none: all) and none of `exclude`. DamagedError: a path that
    leaves its directory."""

    def fits(path: str) -> bool:
        return (not include or any(fnmatchcase(path, glob) for glob in include)) and not any(
            fnmatchcase(path, glob) for glob in exclude
        )

    found = []
    for file in files:
        check_path(file.path)
        if fits(file.path):
            found.append(file)
    return found


def look(
    repo: Repo,
    hub: Hub,
    address: Address,
    branch: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    model: HubModel | None = None,
) -> PullPlan:
    """Ask the Hub what a pull would bring; nothing is written, no weights are read. `model`: what the address
    means, where that is known already."""
    model = model or hub.resolve(address)
    check_weights(
        str(address), [file.path for file in model.files], "pull another of its revisions, or another model"
    )
    wanted = chosen(model.files, include, exclude)
    if not any(file.path.endswith(SUFFIX) for file in wanted):
        words = [f"--include {glob}" for glob in include] + [f"--exclude {glob}" for glob in exclude]
        weights = [file.path for file in model.files if file.path.endswith(SUFFIX)]
        more = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
        raise UsageError(
            f"{address}: {' '.join(words)} leaves no weights", hint=f"its weights are {weights[0]}{more}"
        )
    tip = repo.tip(branch)
    origin = None if tip is None else origin_of(repo.commit(tip))
    filters = (tuple(include), tuple(exclude))
    current = (
        origin is not None
        and (origin.repo_id, origin.commit) == (address.repo_id, model.commit)
        and (origin.include, origin.exclude) == filters
        and not origin.partial
    )
    known = KnownFiles(repo, [] if current else [*([] if tip is None else [tip]), *tips(repo)])
    here = {} if current else {file: found[0] for file in wanted if (found := known.find(file)) is not None}
    lacking = () if current else tuple(file for file in wanted if file not in here)
    return PullPlan(branch, model, tuple(wanted), lacking, here, current)
