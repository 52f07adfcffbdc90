"""From a plan to what an operator is told of one tensor.

Relies on records and the operators' protocol. Promises: pure; the key that an expert's random masks and its
place in sums hang on depends on the checkpoint's content, not on how the repository cuts it into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from blake3 import blake3

from mpstore.ids import ObjectId
from mpstore.merge.operators.protocol import ExpertContext, TensorContext
from mpstore.records.model import Manifest, Plan


def content_key(manifest: Manifest, manifest_id: ObjectId) -> bytes:
    """A name for a checkpoint's weights: a hash of its safetensors files' names and SHA-256.

    The manifest's id would do but for one thing: it changes with the block size, and merged bits must not.
    Where a file's SHA-256 is not known (a merge's output) the tensors' records are what there is: the words
    of a model card show in no mask, the block size does.
    """
    weights = [entry for entry in manifest.files if entry.kind == "safetensors"]
    if not weights or not all(entry.sha256 for entry in weights):
        return _tensors_key(manifest) if all(manifest.tensors.values()) else manifest_id
    hasher = blake3(derive_key_context="mpstore 2026-11-22 checkpoint content")
    for entry in weights:
        hasher.update(entry.sha256 + entry.size.to_bytes(8, "little") + entry.path.encode() + b"\0")
    return hasher.digest()


def _tensors_key(manifest: Manifest) -> bytes:
    hasher = blake3(derive_key_context="mpstore 2026-11-27 checkpoint tensors")
    for key, record in sorted(manifest.tensors.items()):
        hasher.update(record + len(key.encode()).to_bytes(8, "little") + key.encode())
    return hasher.digest()


def tensor_context(plan: Plan, key: str, shape: Sequence[int], expert_keys: Sequence[bytes]) -> TensorContext:
    """The context of one tensor: the plan's parameters with what it overrides for this tensor."""
    override: Mapping[str, Any] = plan.tensor_params.get(key) or {}
    own: Sequence[Mapping[str, Any]] = override.get("experts") or [{}] * len(plan.experts)
    return TensorContext(
        name=key,
        shape=tuple(shape),
        elements=math.prod(shape),
        seed=plan.seed,
        params={**plan.params, **override.get("global", {})},
        experts=tuple(
            ExpertContext(expert_key, {**expert.params, **more})
            for expert_key, expert, more in zip(expert_keys, plan.experts, own, strict=True)
        ),
    )
