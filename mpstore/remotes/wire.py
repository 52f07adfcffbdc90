"""The Hub's JSON and headers as pure functions: what its client expects to be answered.

Relies on shelf's values. Promises: no sockets, no clock. The protocol is described in docs/hub.md; it was
read from the client's requests (huggingface_hub 1.x and 2.x).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from mpstore.remotes.shelf import ShelfFile, Snapshot

Json: TypeAlias = Any
_VERBS: Final = frozenset(
    {"revision", "tree", "paths-info", "refs", "commits", "preupload", "commit", "branch", "tag"}
)
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)$")
POINTER_BYTES: Final = 134


def split_api(path: str) -> tuple[str, str, list[str]] | None:
    """("org/name", verb, rest) of a path below /api/models/; the verb of a bare model is "info".

    >>> split_api("org/name/tree/refs%2Fpr%2F1/sub/dir")
    ('org/name', 'tree', ['refs/pr/1', 'sub', 'dir'])
    >>> split_api("name")
    ('name', 'info', [])
    """
    pieces = [unquote(piece) for piece in path.split("/") if piece]
    for at in (1, 2):
        if len(pieces) > at and pieces[at] in _VERBS:
            return "/".join(pieces[:at]), pieces[at], pieces[at + 1 :]
    return ("/".join(pieces), "info", []) if len(pieces) in (1, 2) else None


def split_resolve(path: str) -> tuple[str, str, str] | None:
    """(repo id, revision, file) of a path such as /org/name/resolve/main/config.json.

    >>> split_resolve("org/name/resolve/main/vae/config.json")
    ('org/name', 'main', 'vae/config.json')
    """
    pieces = [unquote(piece) for piece in path.split("/") if piece]
    for at in (1, 2):
        if len(pieces) > at + 2 and pieces[at] == "resolve":
            return "/".join(pieces[:at]), pieces[at + 1], "/".join(pieces[at + 2 :])
    return None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """[start, stop) of a Range header; None: there is none that we know, send the whole.

    ValueError: it cannot be satisfied (416).

    >>> byte_range("bytes=0-9", 100), byte_range("bytes=90-", 100), byte_range("bytes=-5", 100)
    ((0, 10), (90, 100), (95, 100))
    """
    found = _RANGE.match(header) if header else None
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(0, size - int(last)), size
    if start >= stop:
        raise ValueError(f"no bytes {header} in {size}")
    return start, stop


def model_info(snapshot: Snapshot) -> Json:
    """GET /api/models/{id}[/revision/{rev}]"""
    return {
        "_id": snapshot.commit[:24],
        "id": snapshot.repo_id,
        "modelId": snapshot.repo_id,
        "sha": snapshot.commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": ["mpstore"],
        "siblings": [{"rfilename": file.path} for file in snapshot.files],
    }


def file_entry(file: ShelfFile) -> Json:
    """One file of a tree or of paths-info."""
    entry: Json = {"type": "file", "path": file.path, "size": file.size, "oid": file.oid}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": POINTER_BYTES}
    return entry


def directory_entry(path: str) -> Json:
    return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}


def tree(snapshot: Snapshot, below: str, recursive: bool) -> list[Json]:
    """GET …/tree/{rev}[/{path}]: files, and directories where the listing does not go into them."""
    prefix = below.rstrip("/") + "/" if below else ""
    entries: dict[str, Json] = {}
    for file in snapshot.files:
        if not file.path.startswith(prefix):
            continue
        parts = file.path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            directory = prefix + "/".join(parts[:depth])
            entries[directory] = directory_entry(directory)
        if recursive or len(parts) == 1:
            entries[file.path] = file_entry(file)
    return list(entries.values())


def paths_info(snapshot: Snapshot, paths: Iterable[str]) -> list[Json]:
    """POST …/paths-info/{rev}"""
    found: list[Json] = []
    for path in paths:
        path = path.rstrip("/")
        file = snapshot.file(path)
        if file is not None:
            found.append(file_entry(file))
        elif any(other.path.startswith(path + "/") for other in snapshot.files):
            found.append(directory_entry(path))
    return found


def references(found: dict[str, dict[str, str]]) -> Json:
    """GET …/refs"""

    def rows(kind: str, prefix: str) -> list[Json]:
        return [
            {"name": name, "ref": f"{prefix}/{name}", "targetCommit": commit}
            for name, commit in found.get(kind, {}).items()
        ]

    return {"branches": rows("branches", "refs/heads"), "tags": rows("tags", "refs/tags"), "converts": []}


def commits(snapshot: Snapshot) -> list[Json]:
    """GET …/commits/{rev}: the one commit that the snapshot is of."""
    when = datetime.fromtimestamp(snapshot.time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return [{"id": snapshot.commit, "title": snapshot.title, "message": "", "date": when, "authors": []}]


def file_headers(snapshot: Snapshot, file: ShelfFile) -> dict[str, str]:
    """What a HEAD or GET of /resolve/ answers beside length and range."""
    headers = {"X-Repo-Commit": snapshot.commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    if file.lfs:
        headers["X-Linked-Etag"] = f'"{file.sha256}"'
        headers["X-Linked-Size"] = str(file.size)
    return headers
