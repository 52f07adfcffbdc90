"""The weights of a merge as float32, from a store or a plain file, and how far two of them are apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from paper_naive import Plain

from mpstore import dtypes
from mpstore.repository import Repo
from mpstore.revisions import resolve

Weights = dict[str, np.ndarray]


def merged_weights(repository: Path) -> Weights:
    """Every tensor of the branch `merged`, flat."""
    repo = Repo.open(repository)
    manifest = repo.manifest(repo.commit(resolve(repo, "merged")).manifest)
    return {
        name: dtypes.to_float32(repo.read_tensor(manifest, name), dtypes.known(record.dtype))
        for name, record in repo.tensors(manifest).items()
    }


def plain_weights(folder: Path) -> Weights:
    plain = Plain(folder)
    with plain.file:
        return {name: plain.read(name) for name in plain.tensors}


def relative_deviation(one: Weights, other: Weights) -> float:
    """‖one − other‖ / ‖other‖, over all tensors, in float64."""
    if one.keys() != other.keys():
        raise SystemExit("the merges have different tensors")
    apart = sum(float(np.sum((one[name].astype(np.float64) - other[name]) ** 2)) for name in other)
    whole = sum(float(np.sum(values.astype(np.float64) ** 2)) for values in other.values())
    return math.sqrt(apart / whole)
