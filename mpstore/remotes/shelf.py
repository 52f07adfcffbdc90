"""What a server of the Hub's protocol offers: repositories, their revisions, and the bytes of their files.

Relies on ids only. Promises: plain values; `Shelf` is all that `endpoint` knows of what it serves, so that
`mp serve` (the store) and the tests' server (directories, with faults) share everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mpstore.ids import Buffer

COMMIT_DIGITS = 40
"""The Hub's commit hashes are 40 hex digits; of an mp commit id they are the first 40."""


@dataclass(frozen=True)
class ShelfFile:
    """One file as the Hub lists it. `sha256` in hex; `lfs`: listed with it, as large files are; `blob_id`:
    git's id of it as a blob, by which the others are listed."""

    path: str
    size: int
    sha256: str
    lfs: bool
    blob_id: str = ""

    @property
    def oid(self) -> str:
        """40 hex digits that change with the content."""
        return self.blob_id or self.sha256[:COMMIT_DIGITS]

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Snapshot:
    """One revision of one repository: its commit (40 hex digits) and files, sorted by path."""

    repo_id: str
    commit: str
    files: tuple[ShelfFile, ...]
    title: str = ""
    time_ns: int = 0

    def file(self, path: str) -> ShelfFile | None:
        return next((file for file in self.files if file.path == path), None)


class UnknownRepository(LookupError):
    """No such repository on the shelf."""


class UnknownRevision(LookupError):
    """The repository has no such revision."""


class Shelf(Protocol):
    """Where an endpoint's answers come from. Called from several threads."""

    def snapshot(self, repo_id: str, revision: str) -> Snapshot:
        """UnknownRepository, UnknownRevision."""
        ...

    def read(self, snapshot: Snapshot, path: str, start: int, stop: int) -> Iterator[Buffer]:
        """Bytes start..stop of a file of the snapshot, in pieces."""
        ...

    def references(self, repo_id: str) -> dict[str, dict[str, str]]:
        """{"branches": {name: commit}, "tags": {name: commit}}"""
        ...

    def repositories(self) -> list[str]:
        """Names, as far as the shelf can list them."""
        ...
