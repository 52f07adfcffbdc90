"""The part of `Repository` that looks: names, history, content, comparisons.

Relies on the api's own modules and, when a method needs it, on the room below. Promises: nothing here changes
anything but names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpstore.api import arguments, names
from mpstore.api.opened import Opened

if TYPE_CHECKING:
    from os import PathLike

    from mpstore.api.contents import Tensors
    from mpstore.api.standing import Status
    from mpstore.api.values import Listing, NamedCommit
    from mpstore.diff import Diff
    from mpstore.explain import Explanation
    from mpstore.history import CommitDetail, CommitInfo
    from mpstore.ids import ObjectId
    from mpstore.records.reflog import LogEntry


class Looking(Opened):
    """Names, history and content of an opened repository."""

    # Names

    def branches(self) -> tuple[NamedCommit, ...]:
        """Every branch, sorted by name."""
        return names.listed(self._repo, "heads")

    def create_branch(self, name: str, revision: str, *, force: bool = False, author: str = "") -> ObjectId:
        """Point a branch at a revision; ConflictError when it exists elsewhere, unless `force`."""
        arguments.check(name=name, author=author)
        return names.create(self._repo, "heads", name, revision, author, force=force)

    def delete_branch(self, name: str, *, author: str = "") -> ObjectId:
        """Delete a branch; returns the commit it was at, which its reflog keeps."""
        arguments.check(name=name, author=author)
        return names.delete(self._repo, "heads", name, author)

    def tags(self) -> tuple[NamedCommit, ...]:
        """Every tag, sorted by name."""
        return names.listed(self._repo, "tags")

    def create_tag(self, name: str, revision: str, *, author: str = "") -> ObjectId:
        """Name a revision for good; ConflictError when the tag exists elsewhere."""
        arguments.check(name=name, author=author)
        return names.create(self._repo, "tags", name, revision, author)

    def delete_tag(self, name: str, *, author: str = "") -> ObjectId:
        """Delete a tag; returns the commit it was at."""
        arguments.check(name=name, author=author)
        return names.delete(self._repo, "tags", name, author)

    def reflog(self, name: str | None = None) -> tuple[LogEntry, ...]:
        """Where a branch or tag has pointed, newest first; None: all of them."""
        return names.reflog(self._repo, name)

    # History and content

    def log(self, revision: str | None = None, *, limit: int | None = None) -> tuple[CommitInfo, ...]:
        """The commits that lead to a revision (None: to every branch and tag), children before parents."""
        from mpstore import history

        arguments.check_given(limit=limit)
        return history.log(self._repo, revision, limit)

    def show(self, revision: str) -> CommitDetail:
        """One commit, its names and files."""
        from mpstore import history

        return history.show(self._repo, revision)

    def ls(self, revision: str, patterns: Sequence[str] = ()) -> Listing:
        """Files, and tensors whose key fits one of the glob patterns (none: all)."""
        from mpstore.api import contents

        arguments.check(patterns=patterns)
        return contents.ls(self._repo, revision, patterns)

    def tensors(self, revision: str) -> Tensors:
        """The tensors of a revision as numpy arrays by key, each read when it is asked for; no checkout."""
        from mpstore.api import contents

        return contents.Tensors(self._repo, contents.manifest_of(self._repo, revision))

    def save_tensor(self, revision: str, key: str, path: str | PathLike[str]) -> None:
        """Write one tensor as a .npy file; bfloat16 and float8 become float32, which holds them exactly."""
        from mpstore.api import contents

        contents.save_npy(self.tensors(revision)[key], Path(path))

    def diff(self, old: str | Path, new: str | Path, *, tensors: Sequence[str] = ()) -> Diff:
        """What differs from `old` to `new`, each a revision or a directory (a Path always is one)."""
        from mpstore.api import comparing

        arguments.check(tensors=tensors)
        return comparing.diff(self._repo, old, new, tuple(tensors), self._progress)

    def status(self, directory: str | PathLike[str], revision: str | None = None) -> Status:
        """Which files of a directory are a revision's (None: of the branch that is nearest)."""
        from mpstore.api import standing

        arguments.check(directory=directory)
        return standing.status(self._repo, Path(directory), revision, self._progress)

    def explain(self, revision: str, tensors: Sequence[str] = ()) -> Explanation:
        """Which experts reached which tensor of a merge; `tensors`: globs that narrow it and add bytes."""
        from mpstore import explain

        arguments.check(tensors=tensors)
        return explain.explain(self._repo, revision, tensors)
