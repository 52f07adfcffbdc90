"""Headers of safetensors files as the store keeps them: also of files whose tensors were never fetched.

Relies on repository. Promises: only a header's own blocks are read.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpstore.ids import ID_BYTES
from mpstore.records.model import FileEntry, Manifest
from mpstore.repository import Repo
from mpstore.safetensors_file import Header, TensorInfo, parse_header


def header_bytes(repo: Repo, entry: FileEntry) -> bytes:
    """The header of a stored safetensors file, verbatim."""
    ids = entry.content_ids
    return b"".join(bytes(repo.objects.read(ids[at : at + ID_BYTES])) for at in range(0, len(ids), ID_BYTES))


def stored_header(repo: Repo, entry: FileEntry) -> Header:
    """The parsed header of a stored safetensors file."""
    return parse_header(header_bytes(repo, entry), entry.path, entry.size)


def lacking_tensors(repo: Repo, manifest: Manifest) -> Mapping[str, TensorInfo]:
    """Of a partial manifest, the tensors whose content is not in the store, by their key."""
    found: dict[str, TensorInfo] = {}
    for entry in manifest.files:
        if entry.kind != "safetensors" or all(manifest.tensors[key] for key in entry.tensors):
            continue
        named = zip(entry.tensors, stored_header(repo, entry).tensors, strict=True)
        found.update((key, tensor) for key, tensor in named if not manifest.tensors[key])
    return found
