"""The Hub through its own client: revisions resolved to commits, trees with hashes, bytes from any offset.

Relies on huggingface_hub (imported late: it takes a second). Promises: what the client raises becomes a
`RemoteError` that names the model and says what to do; transient answers (429, 5xx, a cut connection) are
tried again a bounded number of times; nothing is cached on disk.
"""

from __future__ import annotations

import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from io import BufferedIOBase
from typing import Any, Final, TypeVar
from urllib.parse import quote

from mpstore.errors import MpError, RemoteError
from mpstore.events import Progress, silent
from mpstore.remotes.address import Address

T = TypeVar("T")
TRIES: Final = 5
PATIENCE_SECONDS = 1.0
"""Wait before the second try, doubled with each; a server's Retry-After goes before."""
_LONGEST_WAIT_SECONDS: Final = 60.0
_SILENT_SECONDS: Final = 5.0
_NO_ENTRY: Final = {
    401: "log in, again if need be: `hf auth login` or HF_TOKEN",
    403: "the token has no such rights: `hf auth whoami` shows whose it is",
}
_USED_UP: Final = re.compile(r";\s*r=0\s*;\s*t=(\d+)")
"""The Hub's RateLimit header ('"api";r=0;t=55'): nothing is left for so many seconds."""
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


class Stopped(RemoteError):
    """A transfer ended because another one failed, or because the user wants it to."""


class Hub:
    """The Hub at `endpoint` (None: the client's own, HF_ENDPOINT), with the client's token handling.

    `progress` hears of long waits.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | None = None, progress: Progress = silent
    ) -> None:
        import huggingface_hub

        self._progress = progress
        self._stopping = threading.Event()
        self._warning = threading.Lock()

        self._client: Any = huggingface_hub
        self._tools: Any = import_module("huggingface_hub.utils")
        with warnings.catch_warnings():  # the environment may have decided on bars already; then it has
            warnings.simplefilter("ignore")
            self._tools.disable_progress_bars()
        if "HF_HUB_VERBOSITY" not in os.environ:  # it remarks on ways of uploading that are not ours
            self._tools.logging.set_verbosity_error()
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
        seconds = min(seconds, _LONGEST_WAIT_SECONDS)
        if seconds >= _SILENT_SECONDS:
            with self._warning:
                self._progress.warn(f"the Hub says {why}; waiting {seconds:.0f} s")
        self._stopping.wait(seconds)
        self.check_running()

    def stop(self) -> None:
        """End the transfers of all threads at their next bytes; for good."""
        self._stopping.set()

    def check_running(self) -> None:
        if self._stopping.is_set():
            raise Stopped("the transfer was stopped")

    def transient(self, error: BaseException) -> Transient | None:
        """The failure as one worth another try, or None."""
        if isinstance(error, Transient):
            return error
        status = status_of(error)
        if status is not None:
            return transient_status(status, dict(error.response.headers))  # type: ignore[attr-defined]
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
                f"{what} is gated",
                hint="accept its terms on the Hub and log in: `hf auth login` or HF_TOKEN",
            )
        if isinstance(error, kinds.RepositoryNotFoundError):
            return RemoteError(
                f"{what}: no such model, or it is private",
                hint="check the name; for private models log in: `hf auth login` or HF_TOKEN",
            )
        if isinstance(error, kinds.RevisionNotFoundError):
            return RemoteError(
                f"{what}: no such revision", hint="a branch, a tag or a commit of the model on the Hub"
            )
        if isinstance(error, kinds.EntryNotFoundError):
            return RemoteError(f"{what}: listed by the Hub, but not there", hint="try again later")
        if isinstance(error, kinds.OfflineModeIsEnabled):
            return RemoteError(f"{what}: offline mode is on", hint="unset HF_HUB_OFFLINE")
        status = status_of(error)
        if status in (401, 403):
            return RemoteError(f"{what}: {_said(error)}", hint=_NO_ENTRY[status])
        reason = _said(error)
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
            return RemoteError(
                f"{what}: {self.endpoint} cannot be reached ({reason.rpartition('] ')[2]})",
                hint="nothing was changed; check the network, HF_ENDPOINT and the proxy, and try again",
            )
        return RemoteError(
            f"{what}: {reason}",
            hint=f"nothing was changed; try again (the endpoint is {self.endpoint})",
        )


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception of the client's is about."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _said(error: BaseException) -> str:
    """What the server said of it, else the first line of the error."""
    said = getattr(error, "server_message", None) or str(error)
    return said.strip().partition("\n")[0].rstrip(".:") or type(error).__name__


def transient_status(status: int, headers: dict[str, str]) -> Transient | None:
    """A response's status as something to wait out, or None."""
    if status not in _TRANSIENT:
        return None
    named = {name.lower(): value.strip() for name, value in headers.items()}
    after = _retry_after(named.get("retry-after", ""))
    limit = _USED_UP.search(named.get("ratelimit", ""))
    if after is None and limit is not None:
        after = float(limit[1])
    return Transient(f"HTTP {status}", after)


def _retry_after(value: str) -> float | None:
    """Seconds, or the time until a date; None: neither."""
    if value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())


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
