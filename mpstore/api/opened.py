"""Opening a repository, and what everything done with it shares.

Relies on repository and hooks. Promises: `Repository` is what is opened; this is its lowest part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mpstore import hooks
from mpstore.errors import NotFoundError
from mpstore.events import Progress, silent
from mpstore.records.config import Config
from mpstore.repository import Repo
from mpstore.repository_root import is_repository

if TYPE_CHECKING:
    from os import PathLike


class Opened:
    """An opened repository with its hooks."""

    def __init__(
        self, repo: Repo, progress: Progress = silent, say: Callable[[str], None] | None = None
    ) -> None:
        self._opened = repo
        self._progress = progress
        self._hooks = hooks.Hooks(self.mp_dir, progress, say)

    # Opening

    @classmethod
    def init(
        cls,
        directory: str | PathLike[str] = ".",
        *,
        block_elements: int | None = None,
        compression: str = "default",
        progress: Progress = silent,
    ) -> Self:
        """Create a repository in `directory`/.mp, with sample hooks. UsageError: there is one already."""
        settings: dict[str, Any] = {"compression": compression}
        if block_elements is not None:
            settings["block_elements"] = block_elements
        repo = Repo.init(directory, Config(**settings), progress)
        hooks.install_samples(Path(repo.root))
        return cls(repo, progress)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str] = ".",
        *,
        progress: Progress = silent,
        say: Callable[[str], None] | None = None,
    ) -> Self:
        """The repository in the directory `path`, or `path` itself being one."""
        return cls(Repo.open(path, progress), progress, say)

    @classmethod
    def discover(
        cls,
        start: str | PathLike[str] = ".",
        *,
        progress: Progress = silent,
        say: Callable[[str], None] | None = None,
    ) -> Self:
        """The repository of `start` or of the nearest directory above it."""
        return cls(Repo.discover(start, progress), progress, say)

    @property
    def _repo(self) -> Repo:
        """What was opened, for whoever does something with it. NotFoundError: it is no longer there."""
        root = self._opened.root
        if not is_repository(root):
            hint = "it was moved or removed since it was opened; open it where it is now"
            raise NotFoundError(f"{root} is gone", hint=hint)
        return self._opened

    @property
    def mp_dir(self) -> Path:
        """The `.mp` directory."""
        return Path(self._opened.root)

    @property
    def config(self) -> Config:
        """The settings in `.mp/config`."""
        return self._opened.config

    def hooks(self) -> tuple[hooks.HookStatus, ...]:
        """Every hook that a command would run, and whether it is on."""
        return self._hooks.statuses()

    def _committed(self, verb: str, document: Mapping[str, Any]) -> None:
        """Run the hooks that follow a commit."""
        self._hooks.run(f"post-{verb}", document)
        self._hooks.run("post-commit", {"verb": verb, **document})
