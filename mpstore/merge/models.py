"""From what a user calls a model to a commit: revisions, directories, and whatever a resolver knows.

Relies on revisions and ingest. Promises: a directory is taken into the store under a name that lives as long
as the merge; a word that means nothing says so with the nearest known names.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mpstore import checkpoint_dir, revisions
from mpstore.errors import ConflictError, NotFoundError, StorageError, UsageError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short
from mpstore.merge.gather import Source
from mpstore.repository import Repo
from mpstore.suggestions import nearest

_NAMESPACE = "merge-inputs"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_HUB_PAGE = re.compile(r"https?://(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")


class ModelResolver(Protocol):
    """Knows models that are neither a revision nor a directory (hf://ORG/NAME)."""

    def find(self, name: str, whole: bool) -> Source | None:
        """The model, or None: not one of mine. `whole`: every file of it is wanted, not weights alone; where
        the store lacks some, that is said (`Source.whole`), and nothing is fetched but headers."""
        ...

    def fetch(self, source: Source) -> Source | None:
        """A model that `find` gave, all of it brought into the store; None: not one of mine."""
        ...


@dataclass(frozen=True)
class _Taken:
    branch: str
    commit: ObjectId


class Models:
    """The models of one merge. As a context manager: names given to directories go when it is left."""

    def __init__(
        self,
        repo: Repo,
        *,
        resolvers: Sequence[ModelResolver] = (),
        directory: Path | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> None:
        """`directory`: what relative paths start from (None: the working directory)."""
        self._repo = repo
        self._resolvers = resolvers
        self._directory = directory or Path.cwd()
        self._threads = threads
        self._progress = progress
        self._taken: dict[str, _Taken] = {}

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        for taken in set(self._taken.values()):
            try:
                self._repo.refs.move(f"heads/{taken.branch}", taken.commit, None, "merge: input used", "")
            except ConflictError:
                continue  # another merge took the same directory meanwhile and cleans up after itself

    def find(self, name: str, base: ObjectId | None = None, *, whole: bool | None = None) -> Source:
        """The model called `name`; a directory is stored against the commit `base` (None: it is the base).
        `whole`: see `ModelResolver.find`; a base is wanted whole."""
        found = self._resolved(name, base is None if whole is None else whole)
        return Source(name, self._commit(name, base)) if found is None else found

    def headers(self, name: str, whole: bool) -> Source | None:
        """The model called `name`, without taking anything into the store but headers; None: a directory."""
        found = self._resolved(name, whole)
        if found is not None:
            return found
        try:
            return Source(name, revisions.resolve(self._repo, name))
        except NotFoundError:
            return None

    def fetch(self, source: Source) -> Source:
        """The model with all of it in the store."""
        if source.whole:
            return source
        for resolver in self._resolvers:
            found = resolver.fetch(source)
            if found is not None:
                return found
        raise AssertionError(f"nobody knows {source.name}")

    def _resolved(self, name: str, whole: bool) -> Source | None:
        for resolver in self._resolvers:
            found = resolver.find(name, whole)
            if found is not None:
                return found
        if "://" in name:
            page = _HUB_PAGE.match(name)
            known = "a revision, a directory, or hf://ORG/NAME"
            hint = known if page is None else f"a model of the Hub is hf://{page[1]}"
            raise UsageError(f"{name}: no such kind of model", hint=hint)
        return None

    def take(self, names: Sequence[str], base: Source) -> None:
        """Store those of `names` that are directories, all at once, which is faster than one by one as `find`
        asks for them."""
        left = [name for name in names if name not in self._taken]
        paths = {name: path for name in left if (path := self._directory_of(name)) is not None}
        if paths:
            self._store(paths, base)

    def expect(self, name: str) -> None:
        """Raise what can be known of `name` before anything is stored: it is no revision and no directory, or
        the headers of a directory show what is wrong. What only a resolver knows passes."""
        if "://" in name:
            return
        path = self._directory_of(name)
        if path is None:
            self._revision(name)
            return
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{name!r} is not Unicode, as what a plan records must be",
                hint="rename it, or `mp add` it first",
            ) from None
        checkpoint_dir.scan(path)

    def _commit(self, name: str, base: ObjectId | None) -> ObjectId:
        if name in self._taken:
            return self._taken[name].commit
        path = self._directory_of(name)
        if path is not None:
            self._store({name: path}, None if base is None else Source(short(base), base))
            return self._taken[name].commit
        return self._revision(name)

    def _revision(self, name: str) -> ObjectId:
        try:
            return revisions.resolve(self._repo, name)
        except NotFoundError:
            hint = _hint(name, self._path(name))
            if hint is None:
                raise
            raise NotFoundError(f"no branch, tag, commit or directory {name!r}", hint=hint) from None

    def _path(self, name: str) -> Path:
        return self._directory / os.path.expanduser(name)

    def _directory_of(self, name: str) -> Path | None:
        """Where the checkpoint lies that `name` means; None: it means something else."""
        path = self._path(name)
        if "://" in name or not (path.is_dir() or (path.suffix == ".safetensors" and path.is_file())):
            return None
        try:
            revisions.resolve(self._repo, name)
        except NotFoundError:
            return path
        return None

    def _store(self, paths: Mapping[str, Path], base: Source | None) -> None:
        from mpstore import ingest

        branches = {path: _branch_of(path) for path in paths.values()}
        sources = {
            branch: ingest.Source(path, branch, f"input of a merge: {checkpoint_dir.as_text(path)}")
            for path, branch in branches.items()
        }
        said = ingest.Said(None if base is None else ingest.FoundBase(base.name, base.commit))
        try:
            added = ingest.add_all(
                self._repo, list(sources.values()), said, progress=self._progress, threads=self._threads
            )
        except BaseException:  # some of them may have their names by now
            for branch in sources:
                self._forget(branch)
            raise
        commits = {one.branch: one.commit for one in added}
        for name, path in paths.items():
            self._taken[name] = _Taken(branches[path], commits[branches[path]])

    def _forget(self, branch: str) -> None:
        """Take a name away, as far as that can be done."""
        with contextlib.suppress(ConflictError, StorageError):
            tip = self._repo.tip(branch)
            if tip is not None:
                self._repo.refs.move(f"heads/{branch}", tip, None, "merge: input not used", "")


def _branch_of(path: Path) -> str:
    """A name that no other merge gives to another directory."""
    from hashlib import blake2b  # OpenSSL comes with it

    where = blake2b(os.fsencode(path.resolve()), digest_size=8).hexdigest()
    return f"{_NAMESPACE}/{os.getpid()}-{where}"


def _hint(name: str, path: Path) -> str | None:
    """What somebody probably meant by a name that is neither in the store nor a directory; `path`: where the
    directory would be."""
    word, colon, tail = name.rpartition(":")
    if colon and word and not re.search(r"[/\\]", tail):
        return f"a parameter has a value: {word}:{tail or 'weight'}=1"
    model, plus, adapter = name.partition("+")
    if plus and model and adapter:
        return (
            f"an adapter on a model is merged first: mp merge --base {model} --expert {adapter} "
            "--op task_arithmetic --branch NAME; then name that branch here"
        )
    if "/" in name and path.parent.is_dir():
        there = sorted(one.name for one in path.parent.iterdir() if one.is_dir())
        return nearest(path.name, there) or f"{name.rpartition('/')[0] or '/'} is a directory without it"
    if name.startswith(("/", "./", "../", "~")):
        return f"there is no directory {path.parent}"
    if _HUB_NAME.fullmatch(name):
        return f"a model of the Hub is hf://{name}"
    return None


Resolve = Callable[[str], ObjectId]
