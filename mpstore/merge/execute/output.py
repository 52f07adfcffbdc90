"""The output's manifest: the base's files with the merged tensors in their place.

Relies on repository, records and safetensors_file. Promises: files, names and headers are the base's, byte
for byte, unless the dtype changes; a file none of whose tensors changed keeps its SHA-256, of any other it
is left empty; the model card replaces README.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mpstore import blocks, dtypes, safetensors_file
from mpstore.ids import ID_BYTES, ObjectId
from mpstore.records.model import FileEntry, Manifest, TensorRecord
from mpstore.repository import Repo
from mpstore.store import ObjectWriter

CARD_PATH = "README.md"
CONFIG_PATH = "config.json"
_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


def put_opaque(writer: ObjectWriter, path: str, data: bytes) -> FileEntry:
    """Store a whole opaque file."""
    size = blocks.OPAQUE_BLOCK_BYTES
    ids = [writer.put(data[start : start + size]) for start in range(0, len(data), size)]
    return FileEntry(path, "opaque", len(data), hashlib.sha256(data).digest(), b"".join(ids))


def read_content(repo: Repo, ids: bytes) -> bytes:
    """The bytes of a header or an opaque file."""
    starts = range(0, len(ids), ID_BYTES)
    return b"".join(repo.objects.read(ids[start : start + ID_BYTES]) for start in starts)


def manifest(
    repo: Repo,
    writer: ObjectWriter,
    base: Manifest,
    merged: Mapping[str, tuple[ObjectId, TensorRecord]],
    card: bytes | None,
    out_dtype: str = "",
) -> Manifest:
    """The output. `merged`: tensor key -> record id and record, of the tensors that were worked on."""
    entries = []
    for entry in base.files:
        if entry.kind == "safetensors":
            entries.append(_weights(repo, writer, base, entry, merged))
        elif entry.path == CARD_PATH and card is not None:
            continue
        elif entry.path == CONFIG_PATH and out_dtype:
            entries.append(put_config(repo, writer, entry, {}, out_dtype))
        else:
            entries.append(entry)
    if card is not None:
        entries.append(put_opaque(writer, CARD_PATH, card))
    tensors = {key: merged[key][0] if key in merged else own for key, own in base.tensors.items()}
    return Manifest(tuple(sorted(entries, key=lambda entry: entry.path)), tensors)


def _weights(
    repo: Repo,
    writer: ObjectWriter,
    base: Manifest,
    entry: FileEntry,
    merged: Mapping[str, tuple[ObjectId, TensorRecord]],
) -> FileEntry:
    changed = [key for key in entry.tensors if key in merged and merged[key][0] != base.tensors[key]]
    if not changed:
        return entry
    if all(merged[key][1].dtype == repo.tensor(base.tensors[key]).dtype for key in changed):
        return replace(entry, sha256=b"")
    return _with_new_header(repo, writer, entry, merged)


def _with_new_header(
    repo: Repo, writer: ObjectWriter, entry: FileEntry, merged: Mapping[str, tuple[ObjectId, TensorRecord]]
) -> FileEntry:
    """The file with other dtypes, laid out anew as the library would."""
    raw = read_content(repo, entry.content_ids)
    old = safetensors_file.parse_header(raw, entry.path, None)
    key_of = {info.name: key for key, info in zip(entry.tensors, old.tensors, strict=True)}
    described = []
    for info in old.tensors:
        key = key_of[info.name]
        dtype = dtypes.known(merged[key][1].dtype) if key in merged else info.dtype
        described.append((info.name, dtype, info.shape))
    header = safetensors_file.build_header(described, old.metadata)
    content = put_opaque(writer, entry.path, header.raw).content_ids
    keys = tuple(key_of[info.name] for info in header.tensors)
    return FileEntry(entry.path, "safetensors", header.file_bytes, b"", content, keys)


def config_of(repo: Repo, entry: FileEntry) -> dict[str, Any] | None:
    """What a config.json holds; None where it is no JSON object."""
    try:
        config = json.loads(read_content(repo, entry.content_ids))
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def put_config(
    repo: Repo, writer: ObjectWriter, entry: FileEntry, changes: Mapping[str, Any], out_dtype: str
) -> FileEntry:
    """config.json with `changes` where it has such keys, and the new dtype where it names one."""
    config = config_of(repo, entry)
    if config is None:
        return entry
    wanted = dict(changes)
    if out_dtype in _TORCH_NAMES:
        wanted |= dict.fromkeys(("torch_dtype", "dtype"), _TORCH_NAMES[out_dtype])
    changed = {key: wanted.get(key, value) for key, value in config.items()}
    if changed == config:
        return entry
    return put_opaque(writer, entry.path, (json.dumps(changed, indent=2) + "\n").encode())
