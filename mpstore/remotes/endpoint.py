"""A read-only endpoint of the Hub's protocol over a `Shelf`.

Relies on shelf, wire and the standard library's HTTP server. Promises: never writes; a path, range or name
that is not on the shelf is an answer with the Hub's error code, not an exception; bodies are streamed; a
connection that is kept is at its next request, whatever was answered.
"""

from __future__ import annotations

import hmac
import json
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from mpstore.errors import MpError
from mpstore.ids import Buffer
from mpstore.remotes import wire
from mpstore.remotes.shelf import Shelf, ShelfFile, Snapshot, UnknownRepository, UnknownRevision

_MAX_BODY_BYTES: Final = 8 << 20
_PIECE_BYTES: Final = 1 << 16
_MOST_DIGITS: Final = 20  # of a length


class Refusal(Exception):
    """An answer that is an error: status, the Hub's X-Error-Code, and a sentence."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class EndpointHandler(BaseHTTPRequestHandler):
    """Answers one connection. `server` is an `Endpoint`."""

    protocol_version = "HTTP/1.1"
    # Head and body of an answer are two writes: the second must not wait until the first is acknowledged,
    # for which a caller that keeps its connection takes 40 ms.
    disable_nagle_algorithm = True
    server: Endpoint
    unread_bytes = 0
    """Of the request's body; whoever reads from `rfile` takes them off."""

    def do_HEAD(self) -> None:
        self._answer(self.get)

    def do_GET(self) -> None:
        self._answer(self.get)

    def do_POST(self) -> None:
        self._answer(self.post)

    def do_PUT(self) -> None:
        self._answer(self.write)

    do_PATCH = do_DELETE = do_PUT

    def log_message(self, format: str, *args: Any) -> None:
        self.server.log(self.address_string(), format % args)

    # Routing

    def get(self, path: str, query: dict[str, list[str]]) -> None:
        """HEAD and GET; a subclass may answer more, and calls this for the rest."""
        if path.startswith("/api/models/"):
            self._get_api(path.removeprefix("/api/models/"), query)
            return
        if path == "/api/models":
            names = self.server.shelf.repositories()
            self.send_json([{"id": name, "modelId": name, "private": False} for name in names])
            return
        wanted = wire.split_resolve(path.lstrip("/"))
        if wanted is None:
            raise Refusal(404, f"nothing at {path}")
        repo_id, revision, name = wanted
        snapshot = self.snapshot(repo_id, revision)
        file = snapshot.file(name)
        if file is None:
            raise Refusal(404, f"{repo_id} has no file {name} at {revision}", "EntryNotFound")
        self.send_file(snapshot, file)

    def post(self, path: str, query: dict[str, list[str]]) -> None:
        """POST; a subclass may answer more, and calls this for the rest."""
        del query
        wanted = wire.split_api(path.removeprefix("/api/models/"))
        if wanted is None or wanted[1] != "paths-info" or not wanted[2]:
            raise Refusal(405, "this endpoint is read-only")
        snapshot = self.snapshot(wanted[0], wanted[2][0])
        self.send_json(wire.paths_info(snapshot, self._paths()))

    def write(self, path: str, query: dict[str, list[str]]) -> None:
        """PUT, PATCH and DELETE, none of which there is."""
        del path, query
        raise Refusal(405, "this endpoint is read-only")

    def _get_api(self, path: str, query: dict[str, list[str]]) -> None:
        wanted = wire.split_api(path)
        if wanted is None:
            raise Refusal(404, f"nothing at /api/models/{path}")
        repo_id, verb, rest = wanted
        if verb == "refs":
            try:
                self.send_json(wire.references(self.server.shelf.references(repo_id)))
            except UnknownRepository:
                raise Refusal(404, f"no repository {repo_id}", "RepoNotFound") from None
            return
        snapshot = self.snapshot(repo_id, rest[0] if rest else "main")
        if verb in ("info", "revision"):
            self.send_json(wire.model_info(snapshot))
        elif verb == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            self.send_tree(wire.tree(snapshot, "/".join(rest[1:]), recursive), query)
        elif verb == "commits":
            self.send_json(wire.commits(snapshot))
        else:
            raise Refusal(405, "this endpoint is read-only")

    # Pieces that a subclass may replace

    def snapshot(self, repo_id: str, revision: str) -> Snapshot:
        try:
            return self.server.shelf.snapshot(repo_id, revision)
        except UnknownRepository:
            raise Refusal(404, f"no repository {repo_id}", "RepoNotFound") from None
        except UnknownRevision:
            raise Refusal(404, f"{repo_id} has no revision {revision}", "RevisionNotFound") from None

    def send_tree(self, entries: list[Any], query: dict[str, list[str]]) -> None:
        del query
        self.send_json(entries)

    def send_file(self, snapshot: Snapshot, file: ShelfFile) -> None:
        try:
            wanted = wire.byte_range(self.headers.get("Range"), file.size)
        except ValueError as error:
            raise Refusal(416, str(error)) from None
        start, stop = wanted or (0, file.size)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{file.size}")
        for name, value in wire.file_headers(snapshot, file).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command != "HEAD":
            self.send_pieces(self.server.shelf.read(snapshot, file.path, start, stop))

    def send_pieces(self, pieces: Iterator[Buffer]) -> None:
        for piece in pieces:
            self.wfile.write(piece)

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Around every request

    def _answer(self, act: Any) -> None:
        url = urlsplit(self.path)
        self.unread_bytes = self._announced_bytes() or 0
        if not self._is_taken():  # its end is not known, or far: what follows is no request
            self.close_connection = True
        try:
            self._check_token()
            act(url.path, parse_qs(url.query))
        except Refusal as refusal:
            self._refuse(refusal)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except MpError as error:
            self.server.log(self.address_string(), f"{self.path}: {error.message}")
            self.close_connection = True
            self._refuse(Refusal(500, error.message))
        if not self.close_connection:
            self._pass_over_body()

    def _refuse(self, refusal: Refusal) -> None:
        headers = {"X-Error-Message": str(refusal).replace("\n", " ")}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        if self.close_connection:
            headers["Connection"] = "close"
        try:
            self.send_json({"error": str(refusal)}, refusal.status, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _check_token(self) -> None:
        token = self.server.token
        given = self.headers.get("Authorization") or ""
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            self.close_connection = True
            said = "this token is not accepted" if given else "a token is needed: HF_TOKEN"
            raise Refusal(HTTPStatus.UNAUTHORIZED, said)

    def read_body(self) -> bytes:
        if not self._is_taken():
            raise Refusal(413, "the body is too long, or does not say how long it is")
        length, self.unread_bytes = self.unread_bytes, 0
        return self.rfile.read(length)

    def _is_taken(self) -> bool:
        """Whether a body as it was announced is one that is read."""
        length = self._announced_bytes()
        return length is not None and length <= _MAX_BODY_BYTES

    def _announced_bytes(self) -> int | None:
        """Of the request's body; None: it comes in chunks, or with a length that is none."""
        length = self.headers.get("Content-Length") or "0"
        known = length.isascii() and length.isdigit() and len(length) < _MOST_DIGITS
        return int(length) if known and "Transfer-Encoding" not in self.headers else None

    def _pass_over_body(self) -> None:
        """What nobody has read of it would be taken for the next request."""
        try:
            while self.unread_bytes > 0:
                piece = self.rfile.read(min(self.unread_bytes, _PIECE_BYTES))
                self.unread_bytes = self.unread_bytes - len(piece) if piece else 0
        except ConnectionResetError:
            self.close_connection = True

    def _paths(self) -> list[str]:
        body = self.read_body()
        if "json" in (self.headers.get("Content-Type") or ""):
            try:
                paths = json.loads(body).get("paths", [])
            except (ValueError, AttributeError):
                raise Refusal(400, "the body is not JSON with paths") from None
            return [str(path) for path in (paths if isinstance(paths, list) else [paths])]
        return parse_qs(body.decode("utf-8", "replace")).get("paths", [])


class Endpoint(ThreadingHTTPServer):
    """The server. `token`: what callers must bring, None: nothing. `log` hears of every request."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        shelf: Shelf,
        *,
        token: str | None = None,
        handler: type[EndpointHandler] = EndpointHandler,
    ) -> None:
        super().__init__(address, handler)
        self.shelf = shelf
        self.token = token

    def log(self, address: str, line: str) -> None:
        """Silent; `serve` says more where it was asked to."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away in the middle is not worth a traceback."""
        del request
        self.log(str(client_address), f"connection ended: {sys.exception()!r}")

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"
