"""What the store has of a model on the Hub, under whatever name: files are known by their hashes.

Relies on repository, origin and stored_file. Promises: the network is not asked; of content, only small files
are read (the Hub lists these by git's blob id); a file counts once its hash was checked, which that of one
fetched tensor by tensor was not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from mpstore.checkpoint_dir import SUFFIX
from mpstore.errors import DamagedError
from mpstore.ids import ObjectId
from mpstore.records.model import Commit, FileEntry, Manifest
from mpstore.remotes.address import Address
from mpstore.remotes.listing import HubFile
from mpstore.remotes.origin import origin_of
from mpstore.remotes.stored_file import StoredFile
from mpstore.repository import Repo

_SUFFIXES: Final = "bin ckpt gguf h5 msgpack onnx onnx_data ot pkl pt pth tflite"
OTHER_WEIGHTS: Final = tuple(f"*.{suffix}" for suffix in _SUFFIXES.split(" "))
"""The same weights once more, in formats that a merge has no use for."""


class KnownFiles:
    """The complete files of some commits, and which of them is what the Hub lists."""

    def __init__(self, repo: Repo, commits: Sequence[ObjectId]) -> None:
        self._repo = repo
        self._commits = [
            commit
            for commit in dict.fromkeys(commits)
            if repo.objects.contains(commit) and not _is_partial(repo, commit)
        ]

    def find(self, file: HubFile) -> tuple[ObjectId, FileEntry] | None:
        """A commit that has the file at its path with its content, and its entry there."""
        for commit in self._commits:
            manifest = self._repo.manifest(self._repo.commit(commit).manifest)
            entry = find_file(self._repo, manifest, file)
            if entry is not None:
                return commit, entry
        return None


def _is_partial(repo: Repo, commit: ObjectId) -> bool:
    origin = origin_of(repo.commit(commit))
    return origin is not None and origin.partial


def find_file(repo: Repo, manifest: Manifest, file: HubFile) -> FileEntry | None:
    """The complete stored file of that path and content."""
    entry = next((one for one in manifest.files if one.path == file.path), None)
    if entry is None or entry.size != file.size or not entry.sha256:
        return None
    if not all(manifest.tensors[key] for key in entry.tensors):
        return None
    if file.sha256 is not None:
        return entry if entry.sha256 == file.sha256 else None
    same = StoredFile(repo, manifest, entry).git_blob_id() == file.blob_id
    return entry if same else None


def tips(repo: Repo) -> list[ObjectId]:
    """The tips of all branches, by their names."""
    found = (repo.tip(name.removeprefix("heads/")) for name in sorted(repo.refs.names("heads")))
    return [tip for tip in found if tip is not None]


def pulled(repo: Repo, repo_id: str) -> Iterator[tuple[ObjectId, Commit]]:
    """Commits that came from a model of the Hub: of each branch whose tip did, along its history."""
    for tip in tips(repo):
        commit_id: ObjectId | None = tip
        while commit_id is not None:
            commit = repo.commit(commit_id)
            origin = origin_of(commit)
            if origin is None or origin.repo_id != repo_id:
                break
            yield commit_id, commit
            commit_id = next((one.commit for one in commit.parents if one.role == "previous"), None)


def complete(repo: Repo, repo_id: str, files: Sequence[HubFile]) -> ObjectId | None:
    """A commit with all of these files, whoever made it, and no other weights."""
    weights = {file.path for file in files if file.path.endswith(SUFFIX)}
    ordered = sorted(files, key=lambda file: file.sha256 is None)  # small files have to be read to be known
    for commit_id in dict.fromkeys([*tips(repo), *(commit for commit, _ in pulled(repo, repo_id))]):
        with contextlib.suppress(DamagedError):  # it is fetched again, then
            if _is_partial(repo, commit_id):
                continue
            manifest = repo.manifest(repo.commit(commit_id).manifest)
            own = {entry.path for entry in manifest.files if entry.kind == "safetensors"}
            if own == weights and all(find_file(repo, manifest, file) is not None for file in ordered):
                return commit_id
    return None


def at_origin(repo: Repo, address: Address) -> ObjectId | None:
    """The commit that an address meant when it was last asked for; complete ones first."""
    partial_commit = None
    for commit_id, commit in pulled(repo, address.repo_id):
        origin = origin_of(commit)
        if origin is None or address.revision not in (origin.revision, origin.commit):
            continue
        if not origin.partial:
            return commit_id
        partial_commit = partial_commit or commit_id
    return partial_commit
