"""A small file of the Hub, whole and in memory, checked against what the Hub lists.

Relies on download. Promises: bytes whose hash (SHA-256 of LFS files, else git's blob id) is the listed one.
"""

from __future__ import annotations

import hashlib

from mpstore.errors import DamagedError
from mpstore.remotes.download import HubStream
from mpstore.remotes.hub import Hub
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.network import Traffic

_PIECE_BYTES = 1 << 20


def fetch_small(hub: Hub, model: HubModel, file: HubFile, traffic: Traffic) -> bytes:
    """The file's bytes; the caller has looked at `file.size`. DamagedError: not what the Hub lists."""
    parts = []
    with HubStream(hub, model, file, taken=traffic.add) as stream:
        while part := stream.read(_PIECE_BYTES):
            parts.append(part)
    data = b"".join(parts)
    if file.sha256 is not None:
        what, found, listed = "SHA-256", hashlib.sha256(data).hexdigest(), file.sha256.hex()
    else:
        blob = b"blob %d\0" % len(data) + data
        what, listed = "git blob id", file.blob_id
        found = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    if len(listed) in (40, 64) and found != listed:
        raise DamagedError(
            f"{model.address}: {file.path} has {what} {found}, the Hub lists {listed}", hint="pull again"
        )
    return data
