"""Commits made straight from arrays, for tests of the rooms that read records.

Relies on repository and the tests' own safetensors writer. Promises: what ingest would leave, in ten lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from families import NAMES, safetensors_bytes

from mpstore.blocks import OPAQUE_BLOCK_BYTES
from mpstore.codecs import Format
from mpstore.records.model import FileEntry, Manifest, Parent, TensorRecord
from mpstore.repository import Repo
from mpstore.store import Hint, ObjectWriter


def put_opaque(writer: ObjectWriter, raw: bytes) -> bytes:
    """The concatenated ids of content cut as headers and opaque files are."""
    cuts = range(0, len(raw), OPAQUE_BLOCK_BYTES)
    return b"".join(writer.put(raw[at : at + OPAQUE_BLOCK_BYTES], Hint()) for at in cuts)


def put_tensor(repo: Repo, writer: ObjectWriter, array: np.ndarray) -> bytes:
    """The id of a tensor's record."""
    raw = np.ascontiguousarray(array).tobytes()
    step = repo.config.block_elements * array.dtype.itemsize
    hint = Hint(Format.of(NAMES[array.dtype]))
    ids = b"".join(writer.put(raw[at : at + step], hint) for at in range(0, len(raw), step))
    record = TensorRecord(NAMES[array.dtype], array.shape, repo.config.block_elements, ids)
    return repo.put(writer, record)


def put_checkpoint(
    repo: Repo, writer: ObjectWriter, tensors: Mapping[str, np.ndarray], files: Mapping[str, bytes]
) -> bytes:
    """The id of the manifest of one safetensors file and some opaque ones."""
    whole = safetensors_bytes(tensors)
    data_bytes = sum(array.nbytes for array in tensors.values())
    header = whole[: len(whole) - data_bytes]
    digest = hashlib.sha256
    entries = [
        FileEntry(
            "model.safetensors",
            "safetensors",
            len(whole),
            digest(whole).digest(),
            put_opaque(writer, header),
            tuple(tensors),
        )
    ]
    for path, raw in files.items():
        entries.append(FileEntry(path, "opaque", len(raw), digest(raw).digest(), put_opaque(writer, raw)))
    records = {key: put_tensor(repo, writer, tensors[key]) for key in sorted(tensors)}
    return repo.put(writer, Manifest(tuple(sorted(entries, key=lambda entry: entry.path)), records))


def commit(
    repo: Repo,
    branch: str,
    tensors: Mapping[str, np.ndarray],
    *,
    files: Mapping[str, bytes] | None = None,
    parents: Sequence[Parent] = (),
    message: str = "",
    **more: Any,
) -> bytes:
    """Commit arrays on a branch."""
    with repo.objects.writer("test") as writer:
        manifest = put_checkpoint(repo, writer, tensors, files or {})
        return repo.advance(
            writer,
            branch,
            repo.tip(branch),
            manifest=manifest,
            parents=parents,
            message=message,
            **{"author": "me", "how": {"verb": "add"}, **more},
        )
