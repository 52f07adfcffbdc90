"""Tensors of a model whose weights are still elsewhere, as the planner sees them: their headers alone.

Relies on repository and stored_header. Promises: dtype, shape and number of blocks are those that a
fetch will bring; the ids are all zero, which no block has, so nothing is ever taken for equal to them.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpstore import blocks
from mpstore.ids import ID_BYTES
from mpstore.merge.stored_header import lacking_tensors
from mpstore.records.model import Manifest, TensorRecord
from mpstore.repository import Repo

WHY = "the base's weights are not in the store yet, so nothing is known of what differs from them"


def elsewhere(repo: Repo, manifest: Manifest) -> dict[str, TensorRecord]:
    """Of a partial manifest, what its lacking tensors will be."""
    step = repo.config.block_elements
    return {
        key: TensorRecord(
            tensor.dtype.name,
            tuple(tensor.shape),
            step,
            bytes(ID_BYTES * blocks.count(tensor.elements, step)),
        )
        for key, tensor in (lacking_tensors(repo, manifest) if manifest.partial else {}).items()
    }


def is_elsewhere(record: TensorRecord) -> bool:
    return record.blocks > 0 and not any(record.block(0))


def all_tensors(repo: Repo, manifest: Manifest) -> Mapping[str, TensorRecord]:
    """Every tensor of a model, those that are elsewhere included."""
    return {**repo.tensors(manifest), **elsewhere(repo, manifest)}
