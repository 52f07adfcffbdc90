"""Adding checkpoint directories: scan, find the base, stream every file, commit.

Relies on checkpoint_dir and the CheckpointWriter. Promises: everything headers can show is checked before the
store is touched; a file that is known to be unchanged is not read; branches move last, or not at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, Final

from mpstore.checkpoint_dir import SourceFile, tensor_names
from mpstore.errors import StorageError
from mpstore.events import Progress, SharedTask, Task, silent
from mpstore.ids import ObjectId, short, to_hex
from mpstore.ingest.base_search import FoundBase, find_base
from mpstore.ingest.checkpoint_writer import CheckpointWriter, Committed
from mpstore.ingest.crew import Crew
from mpstore.ingest.looking import check_base, look
from mpstore.ingest.reading import OpenedFile
from mpstore.ingest.stat_cache import StatCache
from mpstore.pipeline import thread_count
from mpstore.records.model import CommitKind
from mpstore.repository import Repo

_MOST_TOGETHER: Final = 8  # each has statistics in memory until it is committed
_MUCH_SMALLER: Final = 0.25  # than the base, in norm: fine-tunes are not, and deltas are
_PERHAPS_DELTAS: Final = (
    "{} is much smaller than {}, and in other directions: is it a delta checkpoint? It was added as full "
    "weights; --kind delta adds it as one"
)


@dataclass(frozen=True)
class AddResult:
    """What `add` did. `base` is the name of the base ("" none); `created` False: nothing had changed."""

    branch: str
    base: str | None
    seconds: float
    committed: Committed

    @property
    def commit(self) -> ObjectId:
        return self.committed.commit

    def as_json(self) -> dict[str, Any]:
        """The keys of `mp add --json`; bytes and seconds."""
        done = self.committed
        return {
            "branch": self.branch,
            "commit": to_hex(done.commit),
            "manifest": to_hex(done.manifest),
            "tensors": done.tensors,
            "blocks": done.blocks,
            "new_blocks": done.new_blocks,
            "raw_bytes": done.raw_bytes,
            "stored_bytes": done.summary.stored_bytes,
            "base": self.base,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Source:
    """A checkpoint (a directory, or one safetensors file), the branch that gets it, the commit's message."""

    path: str | os.PathLike[str]
    branch: str
    message: str = ""


@dataclass(frozen=True)
class Said:
    """What is said of every checkpoint of one call: the base (None: it is to be found), the kind (None: it is
    to be found out), and who adds."""

    base: FoundBase | None = None
    kind: CommitKind | None = None
    author: str = ""


def add(
    repo: Repo,
    path: str | os.PathLike[str],
    branch: str,
    *,
    base: ObjectId | None = None,
    base_name: str | None = None,
    kind: CommitKind | None = None,
    message: str = "",
    author: str = "",
    progress: Progress = silent,
    threads: int | None = None,
) -> AddResult:
    """`add_all` of one. `base`: the commit it was made from, called `base_name` in the result."""
    found = None if base is None else FoundBase(base_name or short(base), base)
    said = Said(found, kind, author)
    return add_all(repo, [Source(path, branch, message)], said, progress=progress, threads=threads)[0]


def add_all(
    repo: Repo,
    sources: Sequence[Source],
    said: Said,
    *,
    progress: Progress = silent,
    threads: int | None = None,
    committed: Callable[[str], None] | None = None,
) -> list[AddResult]:
    """Store the checkpoints and commit each on its branch: up to eight come in together, and are all stored
    before the first of them is committed. `committed` hears of each branch that was.

    Without a base, the nearest known checkpoint of the same shapes is found by sampling, for each. Errors:
    those of `checkpoint_dir.scan`, IncompatibleError where the base has nothing in common with one,
    ConflictError where a branch has moved meanwhile, StorageError.
    """
    cache = StatCache(repo.root)
    incoming = [_Incoming(repo, cache, source, said) for source in sources]
    label = (
        f"adding {os.path.basename(os.path.abspath(sources[0].path))}"
        if len(sources) == 1
        else f"adding {len(sources)} checkpoints"
    )
    task = SharedTask(progress.task(label, sum(one.checkpoint.size for one in incoming), "bytes"))
    workers = thread_count(threads, repo.config.threads)
    results: list[AddResult] = []
    try:
        for start in range(0, len(incoming), _MOST_TOGETHER):
            for result in _together(incoming[start : start + _MOST_TOGETHER], workers, task, progress):
                results.append(result)
                if committed is not None:
                    committed(result.branch)
    finally:
        task.finish()
    return results


def _together(
    incoming: Sequence[_Incoming], workers: int, task: Task, progress: Progress
) -> Iterator[AddResult]:
    """Store all of these, then commit one after the other."""
    weights = max(len(one.checkpoint.headers) for one in incoming) * len(incoming)
    with ExitStack() as stack:
        crew = stack.enter_context(Crew(workers, weights, len(incoming)))
        writers = [stack.enter_context(one.writer(crew, progress)) for one in incoming]
        crew.hashing.each(_works(incoming, writers, task))
        for one, writer in zip(incoming, writers, strict=True):
            yield one.commit(writer, progress)


def _works(
    incoming: Sequence[_Incoming], writers: Sequence[CheckpointWriter], task: Task
) -> list[Callable[[], None]]:
    """The first file of each, then the second of each: like files need the same blocks of the base."""
    pairs = list(zip(incoming, writers, strict=True))
    rows = zip_longest(*(one.checkpoint.files for one in incoming))
    return [
        partial(one.add_file, writer, file, task)
        for row in rows
        for (one, writer), file in zip(pairs, row, strict=True)
        if file is not None
    ]


class _Incoming:
    """One checkpoint on its way in: everything that its headers can show has been checked."""

    def __init__(self, repo: Repo, cache: StatCache, source: Source, said: Said) -> None:
        self._started = time.monotonic()
        self._scanned_ns = time.time_ns()
        self._repo = repo
        self._source = source
        self._said = said
        self._tip = repo.tip(source.branch)
        self._cache = cache
        self.checkpoint = look(source.path, said.kind)
        self._base = said.base
        if self._base is None:
            self._base = find_base(repo, self.checkpoint, source.branch)
        else:
            check_base(repo, self._base, self.checkpoint)

    def writer(self, crew: Crew, progress: Progress) -> CheckpointWriter:
        """What takes its files, those of them that are not known already."""
        return CheckpointWriter(
            self._repo,
            label=f"add {self._source.branch}",
            base=None if self._base is None else self._base.commit,
            kind=self.checkpoint.kind,
            layout=tensor_names(self.checkpoint.headers),
            crew=crew,
            progress=progress,
        )

    def add_file(self, writer: CheckpointWriter, file: SourceFile, task: Task) -> None:
        """Store one of its files, or find that it is known."""
        header = self.checkpoint.headers.get(file.path)
        names = () if header is None else [tensor.name for tensor in header.tensors]
        known = self._cache.find(file)
        if known is not None and writer.adopt(known, file.path, names) is not None:
            task.advance(file.size)
            return
        try:
            with OpenedFile(file) as stream:
                if file.kind == "safetensors":
                    writer.add_safetensors(file.path, stream, file.size, task=task)
                else:
                    writer.add_opaque(file.path, stream, file.size, task=task)
                stream.check_unchanged()
        except OSError as error:
            raise StorageError(f"{file.source}: {error.strerror or error}") from error

    def commit(self, writer: CheckpointWriter, progress: Progress) -> AddResult:
        """Commit what the writer has taken."""
        base, said, source = self._base, self._said, self._source
        committed = writer.commit(
            source.branch,
            self._tip,
            author=said.author,
            message=source.message,
            how={"verb": "add"} if base is None else {"verb": "add", "base": to_hex(base.commit)},
            base_named=said.base is not None,
        )
        self._cache.remember(self.checkpoint.files, committed.commit, self._scanned_ns)
        unsaid = None if said.kind is not None else said.base
        if unsaid is not None and _looks_like_deltas(self._repo, unsaid.commit, committed):
            progress.warn(_PERHAPS_DELTAS.format(self.checkpoint.root, unsaid.branch))
        seconds = round(time.monotonic() - self._started, 3)
        return AddResult(source.branch, None if base is None else base.branch, seconds, committed)


def _looks_like_deltas(repo: Repo, base: ObjectId, committed: Committed) -> bool:
    """Full weights are about as large as their base's, and lie in its direction."""
    pair = repo.statistics(repo.commit(base).manifest, committed.manifest)
    if pair is None or pair.expert_kind != "full":
        return False
    base_sq, along = float(pair.base_sq.sum()), float((pair.base_sq + pair.dot_base_delta).sum())
    own_sq = float((pair.base_sq + 2 * pair.dot_base_delta + pair.delta_sq).sum())
    return 0 < own_sq < _MUCH_SMALLER**2 * base_sq and along < (own_sq * base_sq) ** 0.5 / 2
