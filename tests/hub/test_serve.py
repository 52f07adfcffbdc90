"""mp serve: the real client downloads any branch or commit, byte for byte, in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from hub.conftest import files_of
from mpstore.api import Repository
from mpstore.errors import StorageError, UsageError
from mpstore.remotes.endpoint import Endpoint, EndpointHandler

CLIENT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], revision=sys.argv[2]))
"""


@pytest.fixture
def served(repository: Repository, family: dict[str, Path]) -> Iterator[Endpoint]:
    repository.add(family["base"], "base")
    repository.add(family["math"], "math", base="base")
    repository.create_tag("v1", "base")
    with repository.serve() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def download(server: Endpoint, name: str, revision: str, home: Path, token: str = "") -> Path:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if token:
        environment["HF_TOKEN"] = token
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, name, revision],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def refused(asked: str | Request) -> tuple[int, str | None]:
    """Status and error code of a request that fails."""
    with pytest.raises(HTTPError) as caught:
        urlopen(asked)
    with caught.value as answer:
        return answer.code, answer.headers["X-Error-Code"]


def sums(directory: Path) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files_of(directory).items()}


def test_snapshot_download_brings_files_whose_sha256_equal_the_originals(
    served: Endpoint, repository: Repository, family: dict[str, Path], tmp_path: Path
) -> None:
    assert sums(download(served, "math", "main", tmp_path / "hf")) == sums(family["math"])
    assert sums(download(served, "local/math", "v1", tmp_path / "hf")) == sums(family["base"])
    commit = repository.show("base").info.id.hex()
    assert sums(download(served, "math", commit[:40], tmp_path / "hf2")) == sums(family["base"])


def test_ranges_are_answered_from_the_blocks_they_touch(served: Endpoint, family: dict[str, Path]) -> None:
    data = (family["math"] / "model-00001-of-00002.safetensors").read_bytes()
    url = f"{served.url}/math/resolve/main/model-00001-of-00002.safetensors"
    for start, stop in ((0, 1), (7, 5000), (len(data) - 3, len(data)), (1000, 1001)):
        asked = Request(url, headers={"Range": f"bytes={start}-{stop - 1}"})
        with urlopen(asked) as response:
            assert response.status == 206
            assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(data)}"
            assert response.read() == data[start:stop]
    assert refused(Request(url, headers={"Range": f"bytes={len(data)}-"}))[0] == 416


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/nothing", "RepoNotFound"),
        ("/api/models/base/revision/v9", "RevisionNotFound"),
        ("/base/resolve/main/nothing.json", "EntryNotFound"),
        ("/base/resolve/main/..%2F..%2Fetc%2Fpasswd", "EntryNotFound"),
    ],
)
def test_what_is_not_there_is_said_in_the_hubs_codes(served: Endpoint, path: str, code: str) -> None:
    assert refused(served.url + path) == (404, code)


def test_the_body_of_an_answer_does_not_wait_for_its_head(served: Endpoint) -> None:
    """On a connection that is kept. By what the kernel was told, as nothing here judges seconds."""
    seen = []

    class Watching(EndpointHandler):
        def get(self, path: str, query: dict[str, list[str]]) -> None:
            seen.append(self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().get(path, query)

    served.RequestHandlerClass = Watching
    host, port = served.server_address[:2]
    with contextlib.closing(http.client.HTTPConnection(str(host), port)) as connection:
        for _ in range(2):
            connection.request("GET", "/api/models/base")
            assert json.loads(connection.getresponse().read())["id"] == "base"
    assert len(seen) == 2
    assert all(seen)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writing_is_refused(served: Endpoint, method: str) -> None:
    """In JSON, and so that the connection is as good as before: its body is no request."""
    host, port = served.server_address[:2]
    with contextlib.closing(http.client.HTTPConnection(str(host), port)) as connection:
        connection.connect()
        kept = connection.sock
        for body in (b"{}", b"x" * 100_000, b""):
            connection.request(method, "/api/models/base/commit/main", body)
            answer = connection.getresponse()
            assert answer.status == 405
            assert json.loads(answer.read()) == {"error": "this endpoint is read-only"}
            connection.request("GET", "/api/models/base", b"a body that nobody asked for")
            assert json.loads(connection.getresponse().read())["id"] == "base"
        assert connection.sock is kept


@pytest.mark.parametrize("headers", [{"Transfer-Encoding": "chunked"}, {"Content-Length": str(1 << 40)}])
def test_a_body_whose_end_is_unknown_or_far_ends_the_connection(
    served: Endpoint, headers: dict[str, str]
) -> None:
    host, port = served.server_address[:2]
    with contextlib.closing(http.client.HTTPConnection(str(host), port)) as connection:
        for path, status in (("commit", 405), ("paths-info", 413)):
            connection.putrequest("POST", f"/api/models/base/{path}/main")
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Connection"]) == (status, "close")
            answer.read()


def test_another_address_needs_a_token(repository: Repository) -> None:
    with pytest.raises(UsageError, match="token"):
        repository.serve("0.0.0.0")
    with pytest.raises(UsageError, match="token"):
        repository.serve("::")


def test_a_token_is_asked_for(repository: Repository, family: dict[str, Path], tmp_path: Path) -> None:
    repository.add(family["base"], "base")
    with repository.serve(token="secret") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            assert refused(f"{server.url}/api/models/base")[0] == 401
            assert sums(download(server, "base", "main", tmp_path / "hf", "secret")) == sums(family["base"])
        finally:
            server.shutdown()
            thread.join()


def test_a_taken_port_is_said(repository: Repository) -> None:
    with repository.serve() as server, pytest.raises(StorageError, match="cannot listen"):
        repository.serve(port=server.server_address[1])


def test_pulling_from_a_served_repository(served: Endpoint, family: dict[str, Path], tmp_path: Path) -> None:
    other = Repository.init(tmp_path / "other", block_elements=256)
    other.pull("hf://local/math", endpoint=served.url)
    other.checkout("math", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(family["math"])


def test_the_command_serves_until_it_is_told_to_stop(repository: Repository, family: dict[str, Path]) -> None:
    repository.add(family["base"], "base")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mpstore.cli.main",
            "-C",
            str(repository.mp_dir.parent),
            "serve",
            "--port",
            "0",
            "--json",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    answer = ""
    while not answer.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line
        answer += line
    with urlopen(json.loads(answer)["endpoint"] + "/api/models/base") as response:
        assert json.load(response)["id"] == "base"
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()
