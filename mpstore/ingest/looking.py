"""What can be said of a checkpoint before anything of it is stored: its kind, and whether it fits its base.

Relies on checkpoint_dir and repository. Promises: nothing but headers and the index is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeAlias

from mpstore.checkpoint_dir import Checkpoint, scan, tensor_keys, tensor_names
from mpstore.errors import IncompatibleError, UsageError
from mpstore.ingest.base_search import FoundBase
from mpstore.records.model import CommitKind
from mpstore.repository import Repo

Shape: TypeAlias = tuple[int, ...]


def look(path: str | os.PathLike[str], kind: CommitKind | None) -> Checkpoint:
    """What is there, of that kind (None: found out). Errors: those of `checkpoint_dir.scan`, UsageError."""
    found = scan(path)
    return found if kind is None else _as_kind(found, kind)


def check_common(checkpoint: Checkpoint, base: Mapping[str, Shape | None], name: str) -> None:
    """IncompatibleError where a base that was named has nothing in common with what is added. `base`: the
    shape of each of its tensors (None: not known, so the tensor's name must do)."""
    ours = shapes_of(checkpoint)
    common = (key in base and base[key] in (None, shape) for key, shape in ours.items())
    if checkpoint.kind != "lora" and ours and not any(common):  # an adapter has tensors of its own
        raise IncompatibleError(
            f"{checkpoint.root} and the base {name} have no tensor of one name and shape in common",
            hint="name the model that it was made from, or leave --base out",
        )


def shapes_of(checkpoint: Checkpoint) -> dict[str, Shape]:
    """The shape of each tensor, by its key."""
    keys = tensor_keys(tensor_names(checkpoint.headers))
    return {
        key: tensor.shape
        for path, header in checkpoint.headers.items()
        for key, tensor in zip(keys[path], header.tensors, strict=True)
    }


def check_base(repo: Repo, base: FoundBase, checkpoint: Checkpoint) -> None:
    """The same, for a base that is in the store."""
    manifest = repo.manifest(repo.commit(base.commit).manifest)
    here = repo.tensors(manifest)
    known = {key: here[key].shape if key in here else None for key in manifest.tensors}
    check_common(checkpoint, known, base.branch)


def _as_kind(checkpoint: Checkpoint, kind: CommitKind) -> Checkpoint:
    if kind == "lora" and "adapter_config.json" not in {file.path for file in checkpoint.files}:
        raise UsageError(
            f"{checkpoint.root} has no adapter_config.json: no LoRA adapter",
            hint="leave --kind out to have it found out",
        )
    return Checkpoint(checkpoint.root, checkpoint.files, checkpoint.headers, kind)
