"""A few tensors of a commit as one safetensors file.

Relies on content and safetensors_file. Promises: the file is laid out as the safetensors library lays it out;
names are the manifest's keys.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from typing import Final

from mpstore import dtypes
from mpstore.errors import DamagedError, NotFoundError, UsageError
from mpstore.export.content import BlockRun, FileContent, tensor_lengths, tensor_records
from mpstore.records.model import Manifest
from mpstore.regular_file import open_regular
from mpstore.repository import Repo
from mpstore.safetensors_file import build_header, read_header
from mpstore.suggestions import nearest

FILE_NAME: Final = "model.safetensors"


def matching(manifest: Manifest, globs: Sequence[str]) -> list[str]:
    """Keys that fit any of the globs. NotFoundError: a glob that no key fits."""
    chosen: set[str] = set()
    for glob in globs:
        fitting = fnmatch.filter(manifest.tensors, glob)
        if not fitting:
            raise NotFoundError(f"no tensor fits {glob!r}", hint=nearest(glob, manifest.tensors))
        chosen.update(fitting)
    return sorted(chosen)


def check_kept(directory: str, globs: Sequence[str], manifest: Manifest) -> None:
    """Refuse to bring a directory up to date that has tensors which are not chosen: of a file they would be
    gone, and beside it they would be another checkpoint's."""
    names: set[str] = set()
    for name in fnmatch.filter(os.listdir(directory) if os.path.isdir(directory) else [], "*.safetensors"):
        names |= _names(os.path.join(directory, name))
    more = names - set(matching(manifest, globs))
    if more:
        raise UsageError(
            f"{directory} has {len(more)} tensors more than were chosen ({min(more)}, …)",
            hint="leave --tensor out, or check out into a directory of its own",
        )


def _names(path: str) -> set[str]:
    """Tensors in a file; none where it is no file of tensors, and gives way to one."""
    try:
        fd, size = open_regular(path)
        with os.fdopen(fd, "rb") as stream:
            return {one.name for one in read_header(stream.read, path, size).tensors}
    except (DamagedError, OSError):
        return set()


def select(repo: Repo, manifest: Manifest, globs: Sequence[str]) -> FileContent:
    """The tensors that fit any of the globs, as the content of one file."""
    keys = matching(manifest, globs)
    records = dict(zip(keys, tensor_records(repo, manifest, keys, FILE_NAME), strict=True))
    described = []
    for key, record in records.items():
        dtype = dtypes.of(record.dtype)
        if dtype is None:
            raise DamagedError(f"tensor {key!r} has the unknown dtype {record.dtype!r}")
        described.append((key, dtype, record.shape))
    header = build_header(described, {"format": "pt"})
    ordered = [records[tensor.name] for tensor in header.tensors]
    ids = b"".join(record.block_ids for record in ordered)
    lengths = [length for record in ordered for length in tensor_lengths(repo, record)]
    return FileContent(FILE_NAME, b"", header.raw, BlockRun(repo.objects, ids, lengths))
