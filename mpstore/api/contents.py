"""What a revision holds: commit, files, tensors, and tensors as arrays.

Relies on repository, revisions and dtypes. Promises: nothing is read of a tensor before it is asked for, and
what is handed out was verified against its ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore import dtypes, files, revisions
from mpstore.api.values import Listing, TensorInfo
from mpstore.errors import NotFoundError
from mpstore.records.model import Manifest, TensorRecord
from mpstore.repository import Repo

Array = npt.NDArray[Any]


class NoSuchTensor(NotFoundError, KeyError):
    """No tensor of that key: what a mapping raises, with our hint."""

    __str__ = Exception.__str__  # KeyError's would show the quotes of a repr


class Tensors(Mapping[str, Array]):
    """The tensors of a revision by key; each is read from the store when it is asked for.

    Arrays have the tensor's shape; bfloat16 and float8 are ml_dtypes' types. An unknown key is a
    NotFoundError that is a KeyError too.
    """

    def __init__(self, repo: Repo, manifest: Manifest) -> None:
        self._repo = repo
        self._manifest = manifest

    def __getitem__(self, key: str) -> Array:
        if not isinstance(key, str):
            raise NoSuchTensor(f"no tensor {key!r:.200}", hint="a tensor's key is a text")
        try:
            return self._repo.read_tensor(self._manifest, key)
        except NotFoundError as error:
            raise NoSuchTensor(error.message, hint=error.hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest.tensors)

    def __len__(self) -> int:
        return len(self._manifest.tensors)

    def __contains__(self, key: object) -> bool:
        return key in self._manifest.tensors


def manifest_of(repo: Repo, revision: str) -> Manifest:
    """The manifest of a revision."""
    return repo.manifest(repo.commit(revisions.resolve(repo, revision)).manifest)


def ls(repo: Repo, revision: str, patterns: Sequence[str]) -> Listing:
    """Files, and the tensors whose key fits one of the glob patterns (none: all)."""
    commit = revisions.resolve(repo, revision)
    manifest = repo.manifest(repo.commit(commit).manifest)
    found = tuple(
        _tensor_info(key, record)
        for key, record in sorted(repo.tensors(manifest).items())
        if not patterns or any(fnmatchcase(key, pattern) for pattern in patterns)
    )
    if patterns and not found:
        raise NotFoundError(f"no tensor of {revision} fits {' or '.join(patterns)}", hint=f"mp ls {revision}")
    return Listing(commit, manifest.files, found)


def _tensor_info(key: str, record: TensorRecord) -> TensorInfo:
    dtype = dtypes.of(record.dtype)
    raw_bytes = None if dtype is None else dtypes.tensor_bytes(dtype, math.prod(record.shape))
    return TensorInfo(key, record.dtype, record.shape, record.blocks, raw_bytes or 0)


def as_npy_type(array: Array) -> Array:
    """The array in a type that .npy knows: bfloat16 and float8 become float32, which holds them exactly."""
    return array if array.dtype.isbuiltin == 1 else array.astype(np.float32)


def save_npy(array: Array, path: Path) -> None:
    """Write an array as .npy, whole or not at all."""
    with files.StagedFile(path.parent) as staged:
        np.lib.format.write_array(staged, as_npy_type(array), allow_pickle=False)
        staged.publish(path)
