"""`Repository`: one opened repository and everything that can be done with it.

Relies on the api's own modules and, when a method needs it, on the room below. Promises: a method does what
the verb of its name does, raises `mpstore.errors`, and leaves nothing half-done behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mpstore import history, hooks, revisions
from mpstore.api import contents, names
from mpstore.api.values import Listing, MergeWords, NamedCommit
from mpstore.events import Progress, silent
from mpstore.history import CommitDetail, CommitInfo
from mpstore.ids import ObjectId
from mpstore.records.config import Config
from mpstore.records.reflog import LogEntry
from mpstore.repository import Repo

if TYPE_CHECKING:
    from os import PathLike

    from mpstore.api.merging import PlanResult, Words
    from mpstore.api.hub import Remote
    from mpstore.api.measuring import Analyzed
    from mpstore.diff import Diff
    from mpstore.explain import Explanation
    from mpstore.export import CheckoutResult
    from mpstore.gc import GcReport
    from mpstore.ingest import AddResult
    from mpstore.merge.engine import Replayed
    from mpstore.merge.execute.executor import Limits
    from mpstore.merge.results import MergeResult
    from mpstore.records.model import CommitKind
    from mpstore.remotes.endpoint import Endpoint
    from mpstore.remotes.pull import PullPlan, PullResult
    from mpstore.remotes.push import PushResult


class Repository:
    """An opened repository. A revision is a branch, a tag, the beginning of an id, or REV~n.

    `progress` hears of long work and gets warnings; `say` gets what a successful hook prints.
    """

    def __init__(
        self, repo: Repo, progress: Progress = silent, say: Callable[[str], None] | None = None
    ) -> None:
        self._repo = repo
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
    ) -> Repository:
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
    ) -> Repository:
        """The repository in the directory `path`, or `path` itself being one."""
        return cls(Repo.open(path, progress), progress, say)

    @classmethod
    def discover(
        cls,
        start: str | PathLike[str] = ".",
        *,
        progress: Progress = silent,
        say: Callable[[str], None] | None = None,
    ) -> Repository:
        """The repository of `start` or of the nearest directory above it."""
        return cls(Repo.discover(start, progress), progress, say)

    @property
    def mp_dir(self) -> Path:
        """The `.mp` directory."""
        return Path(self._repo.root)

    @property
    def config(self) -> Config:
        """The settings in `.mp/config`."""
        return self._repo.config

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
        from mpstore import ingest

        self._repo.refs.check_name(f"heads/{branch}")
        based_on = None if base is None else revisions.resolve(self._repo, base)
        details = {"path": str(path), "branch": branch, "base": base, "message": message}
        self._hooks.run("pre-add", details)
        added = ingest.add(
            self._repo,
            path,
            branch,
            base=based_on,
            base_name=base,
            kind=kind,
            message=message or f"add {Path(path).resolve().name}",
            author=author,
            progress=self._progress,
            threads=threads,
        )
        self._committed("add", added.as_json())
        return added

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

    def _committed(self, verb: str, document: Mapping[str, Any]) -> None:
        """Run the hooks that follow a commit."""
        self._hooks.run(f"post-{verb}", document)
        self._hooks.run("post-commit", {"verb": verb, **document})

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

        limits = merging.limits_of(self._repo, threads, memory_bytes)
        return merging.replayed(self._repo, revision, limits, self._progress)

    def _said(self, words: MergeWords) -> tuple[Words, Limits]:
        from mpstore.api import merging

        said: dict[str, Any] = dict(words)
        limits = merging.limits_of(self._repo, said.pop("threads", None), said.pop("memory_bytes", None))
        return merging.Words(**said), limits

    # Names

    def branches(self) -> tuple[NamedCommit, ...]:
        """Every branch, sorted by name."""
        return names.listed(self._repo, "heads")

    def create_branch(self, name: str, revision: str, *, force: bool = False, author: str = "") -> ObjectId:
        """Point a branch at a revision; ConflictError when it exists elsewhere, unless `force`."""
        return names.create(self._repo, "heads", name, revision, author, force=force)

    def delete_branch(self, name: str, *, author: str = "") -> ObjectId:
        """Delete a branch; returns the commit it was at, which its reflog keeps."""
        return names.delete(self._repo, "heads", name, author)

    def tags(self) -> tuple[NamedCommit, ...]:
        """Every tag, sorted by name."""
        return names.listed(self._repo, "tags")

    def create_tag(self, name: str, revision: str, *, author: str = "") -> ObjectId:
        """Name a revision for good; ConflictError when the tag exists elsewhere."""
        return names.create(self._repo, "tags", name, revision, author)

    def delete_tag(self, name: str, *, author: str = "") -> ObjectId:
        """Delete a tag; returns the commit it was at."""
        return names.delete(self._repo, "tags", name, author)

    def reflog(self, name: str | None = None) -> tuple[LogEntry, ...]:
        """Where a branch or tag has pointed, newest first; None: all of them."""
        return names.reflog(self._repo, name)

    # History and content

    def log(self, revision: str | None = None, *, limit: int | None = None) -> tuple[CommitInfo, ...]:
        """The commits that lead to a revision (None: to every branch and tag), children before parents."""
        return history.log(self._repo, revision, limit)

    def show(self, revision: str) -> CommitDetail:
        """One commit, its names and files."""
        return history.show(self._repo, revision)

    def ls(self, revision: str, patterns: Sequence[str] = ()) -> Listing:
        """Files, and tensors whose key fits one of the glob patterns (none: all)."""
        return contents.ls(self._repo, revision, patterns)

    def tensors(self, revision: str) -> contents.Tensors:
        """The tensors of a revision as numpy arrays by key, each read when it is asked for; no checkout."""
        return contents.Tensors(self._repo, contents.manifest_of(self._repo, revision))

    def save_tensor(self, revision: str, key: str, path: str | PathLike[str]) -> None:
        """Write one tensor as a .npy file; bfloat16 and float8 become float32, which holds them exactly."""
        contents.save_npy(self.tensors(revision)[key], Path(path))

    def diff(self, old: str | Path, new: str | Path, *, tensors: Sequence[str] = ()) -> Diff:
        """What differs from `old` to `new`, each a revision or a directory (a Path always is one)."""
        from mpstore.api import comparing

        return comparing.diff(self._repo, old, new, tuple(tensors), self._progress)

    def explain(self, revision: str, tensors: Sequence[str] = ()) -> Explanation:
        """Which experts reached which tensor of a merge; `tensors`: globs that narrow it and add bytes."""
        from mpstore import explain

        return explain.explain(self._repo, revision, tensors)

    # Care

    def analyze(
        self, expert: str, *, base: str | None = None, force: bool = False, threads: int | None = None
    ) -> Analyzed:
        """Compute and keep the statistics of an expert against a base (None: the one it was added with)."""
        from mpstore.api import measuring

        return measuring.analyze(self._repo, expert, base, force, threads, self._progress)

    def based_branches(self) -> tuple[str, ...]:
        """The branches whose commit was added with a base."""
        return names.based(self._repo)

    def gc(
        self,
        *,
        dry_run: bool = False,
        keep_reflog_seconds: float = 30 * 86400,
        repack: bool = False,
        compression: str | None = None,
    ) -> GcReport:
        """Remove what no ref, reflog entry in the window, running writer or delta needs.

        `compression`: encode all blocks anew at that level. Hooks: pre-gc, post-gc.
        """
        from mpstore import gc
        from mpstore.codecs import Level

        self._hooks.run("pre-gc", {"dry_run": dry_run})
        report = gc.collect(
            self._repo,
            dry_run=dry_run,
            keep_reflog_ns=int(keep_reflog_seconds * 1e9),
            repack_all=repack,
            compression=None if compression is None else Level(compression),
            progress=self._progress,
        )
        self._hooks.run("post-gc", report.as_json())
        return report

    def hooks(self) -> tuple[hooks.HookStatus, ...]:
        """Every hook that a command would run, and whether it is on."""
        return self._hooks.statuses()

    # The Hub

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Endpoint:
        """A bound server of the Hub's protocol over this repository; its `serve_forever()` runs it."""
        from mpstore.remotes.serving import make_server

        return make_server(self._repo, host, port, token=token, say=say)

    def pull(
        self,
        what: str,
        *,
        branch: str | None = None,
        base: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        message: str = "",
        author: str = "",
        threads: int | None = None,
        endpoint: str | None = None,
    ) -> PullResult:
        """Fetch hf://ORG/NAME[@REV], or the origin of a pulled branch again. Hooks: pre-pull, post-commit."""
        from mpstore.api import hub
        from mpstore.remotes.hub import Hub

        wanted = hub.wanted(self._repo, what, branch, include, exclude)
        self._hooks.run("pre-pull", {"model": str(wanted.address), "branch": wanted.branch})
        pulled = hub.pull_model(
            self._repo,
            Hub(endpoint),
            wanted,
            base=base,
            message=message,
            author=author,
            threads=threads,
            progress=self._progress,
        )
        if pulled.committed is not None and pulled.committed.created:
            self._hooks.run("post-commit", pulled.as_json())
        return pulled

    def look(
        self,
        what: str,
        *,
        branch: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        endpoint: str | None = None,
    ) -> PullPlan:
        """What a pull would bring; nothing is written."""
        from mpstore.api import hub
        from mpstore.remotes.hub import Hub

        wanted = hub.wanted(self._repo, what, branch, include, exclude)
        return hub.look_at_model(self._repo, Hub(endpoint), wanted)

    def push(
        self,
        revision: str,
        target: str,
        *,
        private: bool = False,
        branch: str | None = None,
        message: str = "",
        endpoint: str | None = None,
    ) -> PushResult:
        """Make hf://ORG/NAME hold exactly the files of a revision. Hook: pre-push."""
        from mpstore.api import hub
        from mpstore.remotes.hub import Hub

        self._hooks.run("pre-push", {"revision": revision, "target": target, "branch": branch})
        return hub.push_revision(
            self._repo,
            Hub(endpoint),
            revision,
            target,
            private=private,
            branch=branch,
            message=message,
            progress=self._progress,
        )

    def remotes(self) -> tuple[Remote, ...]:
        """The branches that were pulled, and where from."""
        from mpstore.api import hub

        return hub.remotes(self._repo)
