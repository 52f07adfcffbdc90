"""Adding a checkpoint directory: scan, find the base, stream every file, commit.

Relies on checkpoint_dir and the CheckpointWriter. Promises: everything headers can show is checked before the
store is touched; a file that is known to be unchanged is not read; the branch moves last, or not at all.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Final

from mpstore.checkpoint_dir import Checkpoint, SourceFile, scan, tensor_keys, tensor_names
from mpstore.errors import IncompatibleError, StorageError, UsageError
from mpstore.events import Progress, Task, silent
from mpstore.ids import ObjectId, short, to_hex
from mpstore.ingest.base_search import FoundBase, find_base
from mpstore.ingest.checkpoint_writer import CheckpointWriter, Committed
from mpstore.ingest.reading import OpenedFile
from mpstore.ingest.stat_cache import StatCache
from mpstore.records.model import CommitKind
from mpstore.repository import Repo

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
    """Store the checkpoint at `path` and commit it on `branch`.

    `base`: the commit it was made from (called `base_name` in the result); without it, the nearest known
    checkpoint of the same shapes is found by sampling. `kind`: found out by default. Errors: those of
    `checkpoint_dir.scan`, IncompatibleError where the base has nothing in common with it, ConflictError where
    the branch has moved meanwhile, StorageError.
    """
    started = time.monotonic()
    scanned_ns = time.time_ns()
    tip = repo.tip(branch)
    checkpoint = scan(path)
    if kind is not None:
        checkpoint = _as_kind(checkpoint, kind)
    if base is None:
        found = find_base(repo, checkpoint, branch)
    else:
        found = FoundBase(base_name or short(base), base)
        _check_base(repo, found, checkpoint)
    cache = StatCache(repo.root)
    how = {"verb": "add"} if found is None else {"verb": "add", "base": to_hex(found.commit)}
    with CheckpointWriter(
        repo,
        label=f"add {branch}",
        base=None if found is None else found.commit,
        kind=checkpoint.kind,
        layout=tensor_names(checkpoint.headers),
        threads=threads,
        progress=progress,
    ) as writer:
        task = progress.task(f"adding {branch}", checkpoint.size, "bytes")
        try:
            for file in checkpoint.files:
                _add_file(writer, cache, checkpoint, file, task)
        finally:
            task.finish()
        committed = writer.commit(
            branch, tip, author=author, message=message, how=how, base_named=base is not None
        )
    cache.remember(checkpoint.files, committed.commit, scanned_ns)
    if found is not None and base is not None and kind is None and _looks_like_deltas(repo, base, committed):
        progress.warn(_PERHAPS_DELTAS.format(checkpoint.root, found.branch))
    name = None if found is None else found.branch
    return AddResult(branch, name, round(time.monotonic() - started, 3), committed)


def _check_base(repo: Repo, base: FoundBase, checkpoint: Checkpoint) -> None:
    """A base that was named has something in common with what is added; an adapter has tensors of its own."""
    if checkpoint.kind == "lora":
        return
    manifest = repo.manifest(repo.commit(base.commit).manifest)
    here = repo.tensors(manifest)  # of the others, which were never fetched, the name must do
    keys = tensor_keys(tensor_names(checkpoint.headers))
    ours = [
        (key, tensor.shape)
        for path, header in checkpoint.headers.items()
        for key, tensor in zip(keys[path], header.tensors, strict=True)
    ]
    common = (
        key in manifest.tensors and (key not in here or here[key].shape == shape) for key, shape in ours
    )
    if ours and not any(common):
        raise IncompatibleError(
            f"{checkpoint.root} and the base {base.branch} have no tensor of one name and shape in common",
            hint="name the model that it was made from, or leave --base out",
        )


def _looks_like_deltas(repo: Repo, base: ObjectId, committed: Committed) -> bool:
    """Full weights are about as large as their base's, and lie in its direction."""
    pair = repo.statistics(repo.commit(base).manifest, committed.manifest)
    if pair is None or pair.expert_kind != "full":
        return False
    base_sq, along = float(pair.base_sq.sum()), float((pair.base_sq + pair.dot_base_delta).sum())
    own_sq = float((pair.base_sq + 2 * pair.dot_base_delta + pair.delta_sq).sum())
    return 0 < own_sq < _MUCH_SMALLER**2 * base_sq and along < (own_sq * base_sq) ** 0.5 / 2


def _as_kind(checkpoint: Checkpoint, kind: CommitKind) -> Checkpoint:
    if kind == "lora" and "adapter_config.json" not in {file.path for file in checkpoint.files}:
        raise UsageError(
            f"{checkpoint.root} has no adapter_config.json: no LoRA adapter",
            hint="leave --kind out to have it found out",
        )
    return Checkpoint(checkpoint.root, checkpoint.files, checkpoint.headers, kind)


def _add_file(
    writer: CheckpointWriter, cache: StatCache, checkpoint: Checkpoint, file: SourceFile, task: Task
) -> None:
    header = checkpoint.headers.get(file.path)
    names = () if header is None else [tensor.name for tensor in header.tensors]
    known = cache.find(file)
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
