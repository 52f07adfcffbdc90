"""A Hub on loopback: the project's endpoint over models kept in memory, with uploads and with faults.

What `mp serve` answers is answered by the same code. Beside it: uploads (LFS and commits), and faults that
tests ask for. Every body byte sent is counted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import yaml

from mpstore.remotes import wire
from mpstore.remotes.endpoint import Endpoint, EndpointHandler, Refusal
from mpstore.remotes.shelf import ShelfFile, Snapshot, UnknownRepository, UnknownRevision

PIECE = 1 << 20
Files = dict[str, bytes]


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def listed(path: str, data: bytes) -> ShelfFile:
    lfs = path.endswith((".safetensors", ".bin"))
    return ShelfFile(path, len(data), hashlib.sha256(data).hexdigest(), lfs, blob_id(data))


@dataclass
class Fault:
    """What goes wrong with requests of files whose path fits `glob`, `times` times.

    kind: "status" (with `status`, `retry_after`), "cut" (after `after` bytes), "ignore_range", "truncate"
    (a whole, shorter body), "corrupt" (one bit, same size), "lie" (announces more than it sends), "missing".
    The first `skip` of the requests go well.
    """

    kind: str
    glob: str = "*"
    times: int = 1
    status: int = 500
    retry_after: str | None = None
    after: int = 1000
    skip: int = 0


@dataclass
class Model:
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class MemoryShelf:
    """`Shelf` over models in memory."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.lfs: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.listed_paths: dict[str, str] = {}
        self._snapshots: dict[tuple[str, str], Snapshot] = {}

    def put(self, repo_id: str, files: Files, branch: str = "main") -> str:
        with self.lock:
            model = self.models.setdefault(repo_id, Model())
            seed = f"{repo_id} {branch} {len(model.commits)} {time.time_ns()}"
            commit = hashlib.sha1(seed.encode()).hexdigest()
            model.commits[commit] = dict(files)
            model.branches[branch] = commit
            return commit

    def repositories(self) -> list[str]:
        return list(self.models)

    def references(self, repo_id: str) -> dict[str, dict[str, str]]:
        if repo_id not in self.models:
            raise UnknownRepository(repo_id)
        return {"branches": dict(self.models[repo_id].branches), "tags": {}}

    def commit_of(self, repo_id: str, revision: str) -> str:
        if repo_id not in self.models:
            raise UnknownRepository(repo_id)
        model = self.models[repo_id]
        commit = model.branches.get(revision, revision)
        if commit not in model.commits:
            raise UnknownRevision(revision)
        return commit

    def snapshot(self, repo_id: str, revision: str) -> Snapshot:
        with self.lock:
            commit = self.commit_of(repo_id, revision)
            found = self._snapshots.get((repo_id, commit))
            if found is None:
                files = self.models[repo_id].commits[commit]
                shown = tuple(
                    listed(self.listed_paths.get(path, path), files[path]) for path in sorted(files)
                )
                found = self._snapshots[repo_id, commit] = Snapshot(repo_id, commit, shown)
            return found

    def read(self, snapshot: Snapshot, path: str, start: int, stop: int) -> Iterator[memoryview]:
        data = memoryview(self.models[snapshot.repo_id].commits[snapshot.commit][path])
        for at in range(start, stop, PIECE):
            yield data[at : min(at + PIECE, stop)]


class HubHandler(EndpointHandler):
    server: TestHub

    def do_PUT(self) -> None:
        self._answer(self.put)

    def get(self, path: str, query: dict[str, list[str]]) -> None:
        self.server.note(self.command, path, self.headers)
        if path.startswith("/lfs/"):
            self._send_lfs(path.removeprefix("/lfs/"))
            return
        super().get(path, query)

    def send_tree(self, entries: list[Any], query: dict[str, list[str]]) -> None:
        """Pages of `page` entries, as the Hub sends them."""
        size, start = self.server.page, int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + size < len(entries):
            path = self.path.partition("?")[0]
            link = f"{self.server.url}{path}?recursive=true&cursor={start + size}"
            headers["Link"] = f'<{link}>; rel="next"'
        self.send_json(entries[start : start + size], headers=headers)

    def send_file(self, snapshot: Snapshot, file: ShelfFile) -> None:
        if self.command == "HEAD":
            super().send_file(snapshot, file)
            return
        if file.lfs and self.server.redirect_to is not None:
            self.send_response(302)
            name = f"{snapshot.repo_id.replace('/', '~')}/{snapshot.commit}/{file.path}"
            self.send_header("Location", f"{self.server.redirect_to}/lfs/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(snapshot, file)

    def _send_lfs(self, name: str) -> None:
        repo, commit, path = name.split("/", 2)
        if self.headers.get("Authorization"):
            self.server.leaked_tokens += 1
        snapshot = self.server.shelf.snapshot(repo.replace("~", "/"), commit)
        file = snapshot.file(path)
        assert file is not None
        self._send(snapshot, file)

    def _send(self, snapshot: Snapshot, file: ShelfFile) -> None:
        fault = self.server.fault_for(file.path)
        if fault is None:
            super().send_file(snapshot, file)
            return
        if fault.kind == "status":
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            self.send_json({"error": "as asked"}, fault.status, headers)
        elif fault.kind == "missing":
            raise Refusal(404, "not there", "EntryNotFound")
        else:
            self._send_wrongly(fault, snapshot, file)

    def _send_wrongly(self, fault: Fault, snapshot: Snapshot, file: ShelfFile) -> None:
        asked = None if fault.kind == "ignore_range" else self.headers.get("Range")
        wanted = wire.byte_range(asked, file.size)
        start, stop = wanted or (0, file.size)
        data = b"".join(bytes(piece) for piece in self.server.shelf.read(snapshot, file.path, start, stop))
        announced = len(data)
        if fault.kind == "truncate":
            data = data[: len(data) // 2]
            announced = len(data)
        elif fault.kind == "corrupt":
            at = len(data) - 1
            data = data[:at] + bytes([data[at] ^ 1])
        elif fault.kind == "lie":
            announced = len(data) + 7
        elif fault.kind == "cut":
            fault.times += len(data) <= fault.after  # nothing to cut: it waits for a longer answer
            data = data[: fault.after]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{file.size}")
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.send_pieces(iter([data]))
        if len(data) != announced:
            self.close_connection = True

    def send_pieces(self, pieces: Iterator[Any]) -> None:
        for piece in pieces:
            self.server.count(len(piece))
            self.wfile.write(piece)

    # Uploads

    def post(self, path: str, query: dict[str, list[str]]) -> None:
        self.server.note("POST", path, self.headers)
        if path == "/api/repos/create":
            self._create()
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(path)
        elif path.startswith("/verify/"):
            self.read_body()
            self.send_json({})
        elif path == "/api/validate-yaml":
            self._validate(json.loads(self.read_body())["content"])
        else:
            verb = wire.split_api(path.removeprefix("/api/models/"))
            if verb is None or verb[1] not in ("preupload", "commit", "branch"):
                super().post(path, query)
            else:
                getattr(self, f"_{verb[1]}")(verb[0], verb[2][0])

    def put(self, path: str, query: dict[str, list[str]]) -> None:
        del query
        length = int(self.headers["Content-Length"])
        data = self.rfile.read(length)
        self.unread_bytes = 0
        assert hashlib.sha256(data).hexdigest() == path.removeprefix("/upload/")
        with self.server.shelf.lock:
            self.server.shelf.lfs[hashlib.sha256(data).hexdigest()] = data
            self.server.uploaded_bytes += length
        self.send_json({})

    def _validate(self, card: str) -> None:
        """A model card's front matter: the Hub wants a mapping, if any."""
        _, _, rest = card.partition("---\n")
        found = yaml.safe_load(rest.partition("\n---")[0]) if card.startswith("---\n") else {}
        wrong = [] if isinstance(found, dict) else [{"message": "metadata must be a mapping"}]
        self.send_json({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    def _create(self) -> None:
        asked = json.loads(self.read_body())
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        if name in self.server.shelf.models:
            self.send_json({"error": "you already created it", "url": f"{self.server.url}/{name}"}, 409)
            return
        self.server.shelf.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.server.private[name] = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.send_json({"url": f"{self.server.url}/{name}", "name": name})

    def _branch(self, repo_id: str, branch: str) -> None:
        self.read_body()
        model = self.server.shelf.models[repo_id]
        if branch in model.branches:
            raise Refusal(409, "reference already exists")
        model.branches[branch] = model.branches["main"]
        self.send_json({})

    def _preupload(self, repo_id: str, revision: str) -> None:
        commit = self.server.shelf.commit_of(repo_id, revision)
        files = self.server.shelf.models[repo_id].commits[commit]
        rows = []
        for asked in json.loads(self.read_body())["files"]:
            path = asked["path"]
            known = listed(path, files[path]).etag if path in files else None
            mode = "lfs" if path.endswith(".safetensors") else "regular"
            rows.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self.send_json({"files": rows, "commitOid": commit})

    def _batch(self, path: str) -> None:
        del path
        rows = []
        for asked in json.loads(self.read_body())["objects"]:
            row: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server.shelf.known_lfs():
                url = self.server.url
                row["actions"] = {
                    "upload": {"href": f"{url}/upload/{asked['oid']}"},
                    "verify": {"href": f"{url}/verify/{asked['oid']}"},
                }
            rows.append(row)
        self.send_json({"transfer": "basic", "objects": rows})

    def _commit(self, repo_id: str, revision: str) -> None:
        body = self.read_body()
        shelf = self.server.shelf
        self.server.before_commit()
        parent = shelf.commit_of(repo_id, revision)
        files = dict(shelf.models[repo_id].commits[parent])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit") not in (None, parent):
                raise Refusal(412, "the parent commit is not the branch's tip any more")
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = shelf.known_lfs()[value["oid"]]
            elif item["key"] == "deletedFile":
                files.pop(value["path"], None)
        commit = shelf.put(repo_id, files, revision)
        self.server.commits += 1
        self.send_json({"commitOid": commit, "commitUrl": f"{self.server.url}/{repo_id}/commit/{commit}"})


class UploadShelf(MemoryShelf):
    def known_lfs(self) -> dict[str, bytes]:
        """Every LFS object the Hub has, by SHA-256."""
        found = dict(self.lfs)
        for model in self.models.values():
            for files in model.commits.values():
                for path, data in files.items():
                    if path.endswith(".safetensors"):
                        found[hashlib.sha256(data).hexdigest()] = data
        return found


class TestHub(Endpoint):
    """The server; `with TestHub() as hub:` runs it."""

    __test__ = False
    shelf: UploadShelf

    def __init__(self, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), UploadShelf(), token=token, handler=HubHandler)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str | None]] = []
        self.private: dict[str, bool] = {}
        self.page = 3
        self.sent_bytes = 0
        self.uploaded_bytes = 0
        self.commits = 0
        self.leaked_tokens = 0
        self.redirect_to: str | None = None
        self.on_request: Callable[[str, str], None] = lambda *_: None
        self.before_commit: Callable[[], None] = lambda: None
        self._count_lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> TestHub:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def put(self, repo_id: str, files: Files, branch: str = "main") -> str:
        return self.shelf.put(repo_id, files, branch)

    def note(self, method: str, path: str, headers: Any) -> None:
        with self._count_lock:
            self.requests.append((method, path, headers.get("Range")))
        self.on_request(method, path)

    def count(self, sent_bytes: int) -> None:
        with self._count_lock:
            self.sent_bytes += sent_bytes

    def fault_for(self, path: str) -> Fault | None:
        with self._count_lock:
            for fault in self.faults:
                if fault.times > 0 and fnmatchcase(path, fault.glob):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None
