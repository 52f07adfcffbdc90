"""The manifest of a stack of layers: new files, since the names are new.

Relies on output, safetensors_file and layers. Promises: tensors are laid out as the library would, in files
of at most SHARD_BYTES; config.json speaks of the stack's layers; other files are the base's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mpstore import dtypes, safetensors_file
from mpstore.dtypes import Dtype
from mpstore.ids import ObjectId
from mpstore.merge.execute import output, stack_config
from mpstore.records.model import FileEntry, Manifest, Plan, TensorRecord
from mpstore.repository import Repo
from mpstore.store import ObjectWriter

SHARD_BYTES: Final = 5 * 10**9
INDEX_PATH: Final = "model.safetensors.index.json"

Tensors = Mapping[str, tuple[ObjectId, TensorRecord]]


def manifest(
    repo: Repo,
    writer: ObjectWriter,
    plan: Plan,
    models: Sequence[Manifest],
    tensors: Tensors,
    card: bytes | None,
) -> Manifest:
    """The output of a stack. `models`: the manifests of [base, *experts]; `tensors`: every output tensor's
    record id and record."""
    entries = list(_weights(writer, tensors))
    for entry in models[0].files:
        if entry.kind == "safetensors" or entry.path.endswith(".safetensors.index.json"):
            continue
        if entry.path == output.CARD_PATH and card is not None:
            continue
        if entry.path == output.CONFIG_PATH:
            changes = stack_config.changes([_config(repo, one) for one in models], plan.outputs)
            entries.append(output.put_config(repo, writer, entry, changes, plan.out_dtype))
        else:
            entries.append(entry)
    if card is not None:
        entries.append(output.put_opaque(writer, output.CARD_PATH, card))
    records = {key: tensors[key][0] for key in sorted(tensors)}
    return Manifest(tuple(sorted(entries, key=lambda entry: entry.path)), records)


def _weights(writer: ObjectWriter, tensors: Tensors) -> Iterator[FileEntry]:
    shards = list(_shards(tensors))
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    weight_map = {}
    for name, keys in zip(names, shards, strict=True):
        described = [(key, _dtype(tensors[key][1]), tensors[key][1].shape) for key in keys]
        header = safetensors_file.build_header(described, {"format": "pt"})
        content = output.put_opaque(writer, name, header.raw).content_ids
        order = tuple(info.name for info in header.tensors)
        yield FileEntry(name, "safetensors", header.file_bytes, b"", content, order)
        weight_map.update(dict.fromkeys(keys, name))
    if len(shards) > 1:
        total = sum(_bytes(tensors[key][1]) for key in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        yield output.put_opaque(writer, INDEX_PATH, (json.dumps(index, indent=2) + "\n").encode())


def _shards(tensors: Tensors) -> Iterator[Sequence[str]]:
    """Keys in order, as many a file as fit."""
    keys: list[str] = []
    size = 0
    for key in sorted(tensors):
        more = _bytes(tensors[key][1])
        if keys and size + more > SHARD_BYTES:
            yield keys
            keys, size = [], 0
        keys.append(key)
        size += more
    yield keys


def _dtype(record: TensorRecord) -> Dtype:
    return dtypes.known(record.dtype)


def _bytes(record: TensorRecord) -> int:
    return dtypes.tensor_bytes(_dtype(record), math.prod(record.shape)) or 0


def _config(repo: Repo, manifest: Manifest) -> Mapping[str, Any]:
    """A model's config.json; empty where it has none, or not here."""
    for entry in manifest.files:
        if entry.path == output.CONFIG_PATH and entry.kind == "opaque":
            return output.config_of(repo, entry) or {}
    return {}
