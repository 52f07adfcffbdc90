"""What the Hub answers about a model, as values: its commit and the files of it.

Relies on errors. Promises: pure; an answer that is not of the Hub's form is a RemoteError that says where.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mpstore.errors import RemoteError
from mpstore.remotes.address import Address

Json: TypeAlias = Any


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it. `sha256` of LFS files; of others `blob_id`, git's SHA-1 of the blob."""

    path: str
    size: int
    sha256: bytes | None
    blob_id: str


@dataclass(frozen=True)
class HubModel:
    """One commit of a model: what was asked for, the commit it resolved to, its files sorted by path."""

    address: Address
    commit: str
    files: tuple[HubFile, ...]

    def file(self, path: str) -> HubFile | None:
        return next((file for file in self.files if file.path == path), None)


def commit_of(address: Address, info: Json) -> str:
    """The commit that …/revision/{rev} names."""
    commit = info.get("sha") if isinstance(info, dict) else None
    if not isinstance(commit, str) or not commit:
        raise RemoteError(f"{address}: the Hub names no commit for it")
    return commit


def model_of(address: Address, commit: str, entries: Iterable[Json]) -> HubModel:
    """The model of a recursive …/tree/{commit}."""
    files = [_file(address, entry) for entry in entries if _field(entry, "type") == "file"]
    return HubModel(address, commit, tuple(sorted(files, key=lambda file: file.path)))


def _file(address: Address, entry: Json) -> HubFile:
    path, size, lfs = _field(entry, "path"), _field(entry, "size"), _field(entry, "lfs")
    if not isinstance(path, str):
        raise RemoteError(f"{address}: the Hub lists a file without a name")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RemoteError(f"{address}: {path}: the Hub lists {size!r} as its size")
    sha256 = None
    if lfs is not None:
        oid = _field(lfs, "oid")
        try:
            sha256 = bytes.fromhex(oid if isinstance(oid, str) else "")
        except ValueError:
            sha256 = b""
        if len(sha256) != 32:
            raise RemoteError(f"{address}: {path}: the Hub lists {oid!r} as its SHA-256")
    return HubFile(path, size, sha256, str(_field(entry, "oid")))


def _field(entry: Json, name: str) -> Json:
    return entry.get(name) if isinstance(entry, dict) else None
