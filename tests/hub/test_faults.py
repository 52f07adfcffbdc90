"""What goes wrong on the way: said clearly, with its exit code, no ref moved, and the next try goes on."""

from __future__ import annotations

import _thread
import errno
from pathlib import Path

import pytest
from families import base_tensors, safetensors_bytes

import mpstore.remotes.hub
from hub.conftest import files_of
from hub.server import Fault, TestHub
from mpstore import files
from mpstore.api import Repository
from mpstore.errors import DamagedError, MpError, RemoteError
from mpstore.remotes import body, fetching
from mpstore.remotes.endpoint import Refusal
from mpstore.remotes.hub import transient_status
from tests.warned import Warned

WEIGHTS = "*.safetensors"


@pytest.fixture(autouse=True, params=["parsed", "direct"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long bodies come past the HTTP parser; here every body is long, or none is."""
    monkeypatch.setattr(body, "LONG_BYTES", 1 if request.param == "direct" else 1 << 60)


def branches(repository: Repository) -> list[str]:
    return [branch.name for branch in repository.branches()]


@pytest.fixture
def source(hub: TestHub, family: dict[str, Path]) -> dict[str, bytes]:
    files = files_of(family["base"])
    hub.put("org/base", files)
    return files


def refuse(repository: Repository, hub: TestHub, error: type[MpError], match: str) -> MpError:
    """The pull fails with this error, nothing has moved, and the repository is sound."""
    with pytest.raises(error, match=match) as caught:
        repository.pull("hf://org/base", endpoint=hub.url)
    assert branches(repository) == []
    assert caught.value.hint
    return caught.value


def complete(repository: Repository, hub: TestHub, source: dict[str, bytes], into: Path) -> None:
    """The next try succeeds, and what it brings is right."""
    hub.faults.clear()
    repository.pull("hf://org/base", endpoint=hub.url)
    repository.checkout("base", into)
    assert files_of(into) == source


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_transient_answers_are_waited_out(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path, status: int
) -> None:
    hub.faults = [Fault("status", WEIGHTS, 2, status=status, retry_after="0" if status == 429 else None)]
    complete_without_clearing(repository, hub, source, tmp_path / "out")
    assert hub.faults[0].times == 0


def complete_without_clearing(
    repository: Repository, hub: TestHub, source: dict[str, bytes], into: Path
) -> None:
    repository.pull("hf://org/base", endpoint=hub.url)
    repository.checkout("base", into)
    assert files_of(into) == source


@pytest.mark.parametrize("status", [429, 500])
def test_answers_that_stay_bad_end_the_pull(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path, status: int
) -> None:
    hub.faults = [Fault("status", WEIGHTS, 100, status=status, retry_after="0")]
    error = refuse(repository, hub, RemoteError, f"HTTP {status}")
    assert error.exit_code == 7
    complete(repository, hub, source, tmp_path / "out")


@pytest.mark.parametrize("endpoint", ["htp:/foo", "foo.org", "http://foo.org:many"])
def test_an_endpoint_that_is_no_address_is_said_at_once(
    repository: Repository, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits as long as these are said, and nothing is."""
    monkeypatch.setattr(mpstore.remotes.hub, "PATIENCE_SECONDS", 5.0)
    heard = Warned()
    with pytest.raises(RemoteError, match=f"{endpoint} is no address") as caught:
        Repository.open(repository.mp_dir, progress=heard).pull("hf://org/base", endpoint=endpoint)
    assert "HF_ENDPOINT" in (caught.value.hint or "")
    assert heard.said == []


def test_a_connection_cut_in_the_body_is_taken_up_where_it_broke(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    hub.faults = [Fault("cut", WEIGHTS, 4, after=30_000)]
    complete_without_clearing(repository, hub, source, tmp_path / "out")
    weights = sum(len(data) for path, data in source.items() if path.endswith(".safetensors"))
    assert hub.sent_bytes < 1.5 * weights


def test_a_pull_that_was_cut_off_resumes_from_the_blocks_it_has(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    name = "model-00001-of-00002.safetensors"
    hub.faults = [Fault("cut", name, 3, after=20_000), Fault("status", name, 100, status=404)]
    refuse(repository, hub, RemoteError, "not there")
    hub.faults.clear()
    hub.sent_bytes = 0
    pulled = repository.pull("hf://org/base", endpoint=hub.url)
    assert pulled.resumed_bytes > 10_000
    assert hub.sent_bytes < sum(map(len, source.values())) - 10_000
    repository.checkout("base", tmp_path / "out")
    assert files_of(tmp_path / "out") == source


def test_files_that_came_whole_are_not_fetched_again(
    hub: TestHub,
    repository: Repository,
    source: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "_PARALLEL_FILES", 1)
    name = "model-00002-of-00002.safetensors"
    hub.faults = [Fault("status", name, 100, status=404, skip=2)]  # its header comes
    refuse(repository, hub, RemoteError, "00002.*not there")
    hub.faults.clear()
    hub.sent_bytes = 0
    pulled = repository.pull("hf://org/base", endpoint=hub.url)
    assert pulled.resumed_bytes > len(source["model-00001-of-00002.safetensors"]) - 3000
    assert pulled.received_bytes == hub.sent_bytes < len(source[name]) + 10_000
    repository.checkout("base", tmp_path / "out")
    assert files_of(tmp_path / "out") == source


def test_a_large_file_of_another_kind_resumes_too(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    more = {**source, "pytorch_model.bin": bytes(range(256)) * 8000}
    hub.put("org/base", more)
    hub.faults = [Fault("cut", "*.bin", 2, after=600_000), Fault("status", "*.bin", 100, status=404)]
    refuse(repository, hub, RemoteError, "bin.*not there")
    hub.faults.clear()
    pulled = repository.pull("hf://org/base", endpoint=hub.url)
    assert pulled.resumed_bytes >= 1_000_000
    repository.checkout("base", tmp_path / "out")
    assert files_of(tmp_path / "out") == more


def test_ctrl_c_ends_the_transfers_and_the_next_pull_goes_on(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    """The body is longer than what sockets hold, so without an end the pull would wait for all of it."""
    hub.put("org/base", {**source, "pytorch_model.bin": bytes(range(256)) * 8000})

    def interrupt(_: str, path: str) -> None:
        if path.endswith(".bin"):
            hub.on_request = lambda *_: None
            _thread.interrupt_main()

    hub.on_request = interrupt
    with pytest.raises(KeyboardInterrupt):
        repository.pull("hf://org/base", endpoint=hub.url)
    assert branches(repository) == []
    hub.put("org/base", source)
    complete(repository, hub, source, tmp_path / "out")


@pytest.mark.parametrize(("status", "says"), [(401, "hf auth login"), (403, "rights")])
def test_a_token_that_is_not_accepted(hub: TestHub, repository: Repository, status: int, says: str) -> None:
    def refuse_all(*_: str) -> None:
        raise Refusal(status, "Invalid credentials in Authorization header")

    hub.on_request = refuse_all
    error = refuse(repository, hub, RemoteError, "Invalid credentials")
    assert says in (error.hint or "")
    assert error.exit_code == 7


def test_a_gated_model_and_a_private_one(hub: TestHub, repository: Repository) -> None:
    code = "GatedRepo"

    def refuse_all(*_: str) -> None:
        raise Refusal(403 if code == "GatedRepo" else 401, "no", code)

    hub.on_request = refuse_all
    assert "terms" in (refuse(repository, hub, RemoteError, "is gated").hint or "")
    code = "RepoNotFound"
    assert "HF_TOKEN" in (refuse(repository, hub, RemoteError, "private").hint or "")


def test_what_a_server_asks_to_wait() -> None:
    def wait(**headers: str) -> float | None:
        found = transient_status(429, {name.replace("_", "-"): value for name, value in headers.items()})
        assert found is not None
        return found.wait_seconds

    assert wait(Retry_After="7") == 7
    assert wait(Retry_After="Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert wait(Retry_After="soon") is None
    assert wait(RateLimit='"resolvers";r=0;t=55') == 55
    assert wait(RateLimit='"resolvers";r=3;t=55') is None
    assert wait() is None
    assert transient_status(404, {}) is None


def test_a_server_that_ignores_ranges_is_read_past(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    hub.faults = [Fault("ignore_range", WEIGHTS, 100)]
    complete_without_clearing(repository, hub, source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["truncate", "lie"])
def test_bodies_of_another_length_are_refused(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    hub.faults = [Fault(kind, WEIGHTS, 100)]
    error = refuse(repository, hub, RemoteError, "safetensors")
    assert error.exit_code == 7
    complete(repository, hub, source, tmp_path / "out")


@pytest.mark.parametrize("glob", ["model-00002*.safetensors", "config.json"])
def test_corruption_of_the_same_size_is_caught(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path, glob: str
) -> None:
    """The real client accepts these bytes; the Hub's SHA-256 (or git blob id) does not."""
    hub.faults = [Fault("corrupt", glob, 100)]
    error = refuse(repository, hub, DamagedError, "expected|lists|claims|header")
    assert error.exit_code == 4
    complete(repository, hub, source, tmp_path / "out")


def test_a_branch_that_moves_during_the_pull_stays_pinned(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    first = hub.shelf.commit_of("org/base", "main")

    def move(method: str, path: str) -> None:
        if "/tree/" in path:
            hub.on_request = lambda *_: None
            hub.put("org/base", {**source, "config.json": b"{}"})
            assert method == "GET"

    hub.on_request = move
    pulled = repository.pull("hf://org/base", endpoint=hub.url)
    assert pulled.revision == first
    repository.checkout("base", tmp_path / "out")
    assert files_of(tmp_path / "out") == source


def test_a_file_listed_but_missing(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    hub.faults = [Fault("missing", "tokenizer.json", 100)]
    refuse(repository, hub, RemoteError, r"tokenizer\.json.*not there")
    complete(repository, hub, source, tmp_path / "out")


@pytest.mark.parametrize("path", ["../outside.json", "/etc/outside", "a/../../outside", "a\\..\\b"])
def test_names_that_leave_the_directory_are_refused(
    hub: TestHub, repository: Repository, source: dict[str, bytes], path: str
) -> None:
    hub.put("org/base", {**source, "evil.json": b"{}"})
    hub.shelf.listed_paths["evil.json"] = path
    refuse(repository, hub, DamagedError, "outside|b'")


def test_a_lying_header_is_refused_before_weights(hub: TestHub, repository: Repository) -> None:
    lie = safetensors_bytes(
        {"w": base_tensors()["lm_head.weight"]},
        {"w": {"dtype": "BF16", "shape": [1 << 40], "data_offsets": [0, 1 << 41]}},
    )
    hub.put("org/base", {"model.safetensors": lie})
    refuse(repository, hub, DamagedError, "model.safetensors")
    assert hub.sent_bytes < 5000


def test_a_full_disk_in_the_middle(
    hub: TestHub, repository: Repository, source: dict[str, bytes], tmp_path: Path
) -> None:
    written = 0

    def fill(operation: files.Operation) -> int | None:
        nonlocal written
        if operation.kind == "write":
            written += 1
            if written > 2:
                raise OSError(errno.ENOSPC, "No space left on device", str(operation.path))
        return None

    files.set_observer(fill)
    try:
        with pytest.raises(RemoteError, match="No space left"):
            repository.pull("hf://org/base", endpoint=hub.url)
    finally:
        files.set_observer(None)
    assert branches(repository) == []
    complete(repository, hub, source, tmp_path / "out")
