"""`Repository`: one opened repository and everything that can be done with it.

Relies on the api's own modules and, when a method needs it, on the room below. Promises: a method does what
the verb of its name does, raises `mpstore.errors`, and leaves nothing half-done behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mpstore import revisions
from mpstore.api import arguments, names
from mpstore.api.hub_side import HubSide
from mpstore.api.looking import Looking
from mpstore.errors import UsageError
from mpstore.repository import Repo
from mpstore.suggestions import nearest

if TYPE_CHECKING:
    from os import PathLike

    from mpstore.api.measuring import Analyzed, Overlaps
    from mpstore.api.merging import Words
    from mpstore.api.planned import PlanResult
    from mpstore.api.values import MergeWords
    from mpstore.export import CheckoutResult
    from mpstore.fsck import FsckReport
    from mpstore.gc import GcReport
    from mpstore.ingest import AddResult
    from mpstore.merge.engine import Replayed
    from mpstore.merge.execute.limits import Limits
    from mpstore.merge.results import MergeResult
    from mpstore.records.model import CommitKind
    from mpstore.usage import Usage


class Repository(Looking, HubSide):
    """An opened repository. A revision is a branch, a tag, the beginning of an id, or REV~n.

    `progress` hears of long work and gets warnings; `say` gets what a successful hook prints.
    """

    # Filling

    def add(
        self,
        path: str | PathLike[str],
        branch: str,
        *,
        base: str | None = None,
        kind: CommitKind | None = None,
        message: str = "",
        author: str = "",
        threads: int | None = None,
    ) -> AddResult:
        """Store a checkpoint (a directory, or one safetensors file) and commit it on a branch.

        `base`: the revision it was fine-tuned from, found by sampling where it is not given. `kind`: found
        out by default. `message`: "add NAME" by default. Hooks: pre-add, post-add, post-commit.
        """
        arguments.check(path=path, branch=branch)
        said: dict[str, Any] = {"base": base, "kind": kind, "message": message, "author": author}
        return self.add_all([(path, branch)], threads=threads, **said)[0]

    def add_all(
        self,
        checkpoints: Sequence[tuple[str | PathLike[str], str]],
        *,
        base: str | None = None,
        kind: CommitKind | None = None,
        message: str = "",
        author: str = "",
        threads: int | None = None,
    ) -> list[AddResult]:
        """`add` of several, each (path, branch), faster than one by one; said is what is said of all.

        The one whose branch `base` names comes first (without `base`, the first one), and the others may lean
        on it. Those come in together, up to eight, and none is committed before all of these are stored.
        `kind` is not said of a base that `base` names.
        """
        from mpstore.api import adding

        arguments.check(checkpoints=checkpoints, message=message, author=author)
        arguments.check_given(base=base, kind=kind, threads=threads)
        hooks = adding.Hooks(
            before=lambda details: self._hooks.run("pre-add", details),
            after=lambda details: self._committed("add", details),
        )
        said = adding.Said(base, kind, message, author)
        return adding.add_all(self._repo, hooks, checkpoints, said, self._progress, threads)

    def checkout(
        self,
        revision: str,
        directory: str | PathLike[str],
        *,
        tensors: Sequence[str] = (),
        force: bool = False,
        update: bool = False,
        threads: int | None = None,
    ) -> CheckoutResult:
        """Write a revision into a directory, byte for byte; it appears whole or not at all.

        `tensors`: globs, then only those, in one file. `force`: replace the directory. `update`: rewrite only
        what differs in it. Hooks: pre-checkout, post-checkout.
        """
        from mpstore import export

        arguments.check(directory=directory, tensors=tensors)
        arguments.check_given(threads=threads)
        commit = revisions.resolve(self._repo, revision)
        manifest = self._repo.manifest(self._repo.commit(commit).manifest)
        raw_bytes = sum(entry.size for entry in manifest.files)
        details = {"revision": revision, "commit": commit.hex(), "directory": str(Path(directory).absolute())}
        self._hooks.run("pre-checkout", {**details, "raw_bytes": raw_bytes})
        done = export.checkout(
            self._repo,
            commit,
            directory,
            tensors=tensors,
            force=force,
            update=update,
            progress=self._progress,
            threads=threads,
        )
        self._hooks.run("post-checkout", {**details, **done.as_json()})
        return done

    # Merging

    def plan(self, *, store: bool = True, **words: Unpack[MergeWords]) -> PlanResult:
        """What a merge would read, keep and omit. Nothing of the models is read; the plan is stored."""
        from mpstore.api import merging

        said, limits = self._said(words)
        return merging.plan(self._repo, said, limits, store, self._progress)

    def merge(
        self, branch: str, *, message: str = "", author: str = "", **words: Unpack[MergeWords]
    ) -> MergeResult:
        """Merge experts into a base, reading no more than the budget, and commit the result on a branch.

        Hooks: pre-merge (once the plan is made), post-merge, post-commit.
        """
        from mpstore.api import merging

        arguments.check(branch=branch, message=message, author=author)
        said, limits = self._said(words)
        return merging.merge(
            self._repo,
            said,
            branch,
            limits,
            message=message,
            author=author,
            before=lambda details: self._hooks.run("pre-merge", details),
            after=lambda details: self._committed("merge", details),
            progress=self._progress,
        )

    def replay(
        self, revision: str, *, threads: int | None = None, memory_bytes: int | None = None
    ) -> Replayed:
        """Execute a merge's plan again, and compare manifests. No branch moves."""
        from mpstore.api import merging

        arguments.check_given(threads=threads, memory_bytes=memory_bytes)
        limits = merging.limits_of(self._repo, threads, memory_bytes)
        return merging.replayed(self._repo, revision, limits, self._progress)

    def _said(self, words: MergeWords) -> tuple[Words, Limits]:
        """UsageError: a keyword that is none, or a value that its word cannot have."""
        from mpstore.api import merging, values

        said: dict[str, Any] = dict(words)
        known = values.MergeWords.__annotations__
        for word in said:
            if word not in known:
                raise UsageError(f"no such keyword: {word!r}", hint=nearest(word, known))
        arguments.check_given(**said)
        limits = merging.limits_of(self._repo, said.pop("threads", None), said.pop("memory_bytes", None))
        return merging.Words(**said), limits

    # Care

    def analyze(
        self, expert: str, *, base: str | None = None, force: bool = False, threads: int | None = None
    ) -> Analyzed:
        """Compute and keep the statistics of an expert against a base (None: the one it was added with)."""
        from mpstore.api import measuring

        arguments.check_given(threads=threads)
        return measuring.analyze(self._repo, expert, base, force, threads, self._progress)

    def compare(self, experts: Sequence[str], *, force: bool = False, threads: int | None = None) -> Overlaps:
        """Know how every two of these experts lie to each other, which makes the bounds of merges tight."""
        from mpstore.api import measuring

        arguments.check(experts=experts)
        arguments.check_given(threads=threads)
        return measuring.overlaps(self._repo, experts, force, threads, self._progress)

    def based_branches(self) -> tuple[str, ...]:
        """The branches whose commit was added with a base."""
        return names.based(self._repo)

    def stats(self) -> Usage:
        """What the repository holds and what it costs on disk, by branch and by codec."""
        from mpstore import usage

        return usage.usage(self._repo)

    def fsck(
        self,
        *,
        read_data: bool = False,
        subset: str | None = None,
        repair: bool = False,
        sources: Sequence[str] = (),
    ) -> FsckReport:
        """Look for damage, and mend it where asked.

        `read_data`: read every object; `subset`: only a part ("2/7", "10%", "2GiB"). `sources`: checkpoints
        or repositories that may have copies of what is lost, for `repair`.
        """
        from mpstore import fsck

        arguments.check(sources=sources)
        arguments.check_given(subset=subset)
        part = None if subset is None else fsck.parse_subset(subset)
        fresh = Repo.open(self.mp_dir, self._progress)  # what this one has in memory would not be read again
        if not repair:
            return fsck.check(fresh, read_data=read_data, subset=part, progress=self._progress)
        return fsck.repair(
            fresh, read_data=read_data or part is None, subset=part, sources=sources, progress=self._progress
        )

    def gc(
        self,
        *,
        dry_run: bool = False,
        keep_reflog_seconds: float = 30 * 86400,
        repack: bool = False,
        compression: str | None = None,
        drop_sessions: Sequence[str] = (),
    ) -> GcReport:
        """Remove what no ref, reflog entry in the window, running writer or delta needs.

        `compression`: encode all blocks anew at that level. `drop_sessions`: hosts or names of sessions of
        other hosts to be declared dead first. Hooks: pre-gc, post-gc.
        """
        from mpstore import gc
        from mpstore.codecs import Level

        arguments.check(keep_reflog_seconds=keep_reflog_seconds, drop_sessions=drop_sessions)
        arguments.check_given(compression=compression)
        self._hooks.run("pre-gc", {"dry_run": dry_run})
        report = gc.collect(
            self._repo,
            dry_run=dry_run,
            keep_reflog_ns=int(keep_reflog_seconds * 1e9),
            repack_all=repack,
            compression=None if compression is None else Level(compression),
            dropped_sessions=tuple(drop_sessions),
            progress=self._progress,
        )
        self._hooks.run("post-gc", report.as_json())
        return report
