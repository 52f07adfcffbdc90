"""The Hub through its own client: revisions resolved to commits, trees with hashes, bytes from any offset.

Relies on huggingface_hub (imported late: it takes a second). Promises: what the client raises becomes a
`RemoteError` that names the model and says what to do; transient answers (429, 5xx, a cut connection) are
tried again a bounded number of times; nothing is cached on disk.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from io import BufferedIOBase
from typing import Any, Final, TypeVar
from urllib.parse import quote

from mpstore.errors import MpError, RemoteError
from mpstore.remotes.address import Address

T = TypeVar("T")
TRIES: Final = 5
PATIENCE_SECONDS = 1.0
"""Wait before the second try, doubled with each; a server's Retry-After goes before."""
_LONGEST_WAIT_SECONDS: Final = 60.0
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


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


class Transient(Exception):
    """Worth another try; `wait_seconds` is what the server asked for."""

    def __init__(self, why: str, wait_seconds: float | None = None) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


class Hub:
    """The Hub at `endpoint` (None: the client's own, HF_ENDPOINT), with the client's token handling."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        import huggingface_hub

        self._client: Any = huggingface_hub
        self._tools: Any = import_module("huggingface_hub.utils")
        with warnings.catch_warnings():  # the environment may have decided on bars already; then it has
            warnings.simplefilter("ignore")
            self._tools.disable_progress_bars()
        self.api = huggingface_hub.HfApi(endpoint=endpoint, token=token, library_name="mpstore")

    @property
    def endpoint(self) -> str:
        return str(self.api.endpoint)

    @property
    def offline(self) -> bool:
        return bool(import_module("huggingface_hub.constants").HF_HUB_OFFLINE)

    def resolve(self, address: Address) -> HubModel:
        """The commit an address means now, and its files. RemoteError: not there, not allowed, no answer."""
        self.check_online()

        def ask() -> HubModel:
            info = self.api.model_info(address.repo_id, revision=address.revision)
            if not info.sha:
                raise RemoteError(f"{address}: the Hub names no commit for it")
            entries = self.api.list_repo_tree(address.repo_id, recursive=True, revision=info.sha)
            found = [_hub_file(entry) for entry in entries if hasattr(entry, "blob_id")]
            return HubModel(address, info.sha, tuple(sorted(found, key=lambda file: file.path)))

        return self.retrying(ask, str(address))

    def check_online(self) -> None:
        """RemoteError where the client was told to stay offline."""
        if self.offline:
            raise RemoteError(
                "HF_HUB_OFFLINE is set: the Hub is not asked", hint="unset HF_HUB_OFFLINE to reach the Hub"
            )

    def url(self, model: HubModel, path: str) -> str:
        """Where a file's bytes are. Pinned to the commit: a branch that moves meanwhile changes nothing."""
        return f"{self.endpoint}/{model.address.repo_id}/resolve/{model.commit}/{quote(path)}"

    def get(self, url: str, headers: dict[str, str]) -> Any:
        """An opened streaming GET (a context manager of the client's own session; redirects are followed,
        and the token stays with the origin it is for)."""
        sent = self._tools.build_hf_headers(token=self.api.token, library_name="mpstore", headers=headers)
        sent["Accept-Encoding"] = "identity"
        session: Any = self._client.get_session()
        return session.stream("GET", url, headers=sent, follow_redirects=True, timeout=60.0)

    def operations(self, additions: Mapping[str, BufferedIOBase], deletions: Sequence[str]) -> list[Any]:
        """The client's description of a commit; streams must be seekable."""
        operations = [self._client.CommitOperationAdd(path, stream) for path, stream in additions.items()]
        return operations + [self._client.CommitOperationDelete(path) for path in deletions]

    def retrying(self, act: Callable[[], T], what: str) -> T:
        """Do it, again after transient failures, and translate what remains."""
        for attempt in range(TRIES):
            try:
                return act()
            except MpError:
                raise
            except Exception as error:
                transient = self.transient(error)
                if transient is None or attempt + 1 == TRIES:
                    raise self.translate(error, what) from error
                self.wait(attempt, transient)
        raise AssertionError("the loop returns or raises")

    def wait(self, attempt: int, why: Transient) -> None:
        asked = why.wait_seconds
        seconds = PATIENCE_SECONDS * 2**attempt if asked is None else asked
        time.sleep(min(seconds, _LONGEST_WAIT_SECONDS))

    def transient(self, error: BaseException) -> Transient | None:
        """The failure as one worth another try, or None."""
        if isinstance(error, Transient):
            return error
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if status is not None:
            return transient_status(status, dict(getattr(response, "headers", {})))
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return Transient(f"{type(error).__name__}: {error}")
        return None

    def translate(self, error: BaseException, what: str) -> MpError:
        """A foreign exception as ours."""
        if isinstance(error, MpError):
            return error
        kinds: Any = import_module("huggingface_hub.errors")
        if isinstance(error, kinds.GatedRepoError):
            return RemoteError(
                f"{what} is gated", hint="accept its terms on the Hub and log in: `hf auth login`"
            )
        if isinstance(error, kinds.RepositoryNotFoundError):
            return RemoteError(
                f"{what}: no such model, or it is private",
                hint="check the name; for private models log in: `hf auth login` or HF_TOKEN",
            )
        if isinstance(error, kinds.RevisionNotFoundError):
            return RemoteError(
                f"{what}: no such revision", hint="`hf models info` lists its branches and tags"
            )
        if isinstance(error, kinds.EntryNotFoundError):
            return RemoteError(f"{what}: listed by the Hub, but not there", hint="try again later")
        if isinstance(error, kinds.OfflineModeIsEnabled):
            return RemoteError(f"{what}: offline mode is on", hint="unset HF_HUB_OFFLINE")
        reason = str(error).strip().splitlines()
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
            why = reason[0].rpartition("] ")[2] if reason else "no answer"
            return RemoteError(
                f"{what}: {self.endpoint} cannot be reached ({why})",
                hint="nothing was changed; check the network, HF_ENDPOINT and the proxy, and try again",
            )
        return RemoteError(
            f"{what}: {reason[0] if reason else type(error).__name__}",
            hint=f"nothing was changed; try again (the endpoint is {self.endpoint})",
        )


def transient_status(status: int, headers: dict[str, str]) -> Transient | None:
    """A response's status as something to wait out, or None."""
    if status not in _TRANSIENT:
        return None
    after = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return Transient(f"HTTP {status}", float(after) if after.isdigit() else None)


def _hub_file(entry: Any) -> HubFile:
    sha256 = None
    if entry.lfs is not None:
        try:
            sha256 = bytes.fromhex(entry.lfs.sha256)
        except ValueError:
            sha256 = b""
        if len(sha256) != 32:
            raise RemoteError(f"{entry.path}: the Hub lists {entry.lfs.sha256!r} as its SHA-256")
    if not isinstance(entry.size, int) or entry.size < 0:
        raise RemoteError(f"{entry.path}: the Hub lists {entry.size!r} as its size")
    return HubFile(entry.path, entry.size, sha256, entry.blob_id)
