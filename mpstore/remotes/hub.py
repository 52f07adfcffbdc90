"""The Hub through its own client: revisions resolved to commits, trees with hashes, bytes from any offset.

Relies on huggingface_hub (imported late, and of it only what is needed). Promises: what the client raises
becomes a `RemoteError` that names the model and says what to do; transient answers (429, 5xx, a cut
connection) are tried again a bounded number of times; nothing is cached on disk.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib import import_module
from io import BufferedIOBase
from typing import Any, Final, TypeVar
from urllib.parse import quote

from mpstore.errors import MpError, RemoteError
from mpstore.events import Progress, silent
from mpstore.remotes.address import Address
from mpstore.remotes.listing import HubModel, commit_of, model_of

T = TypeVar("T")
TRIES: Final = 5
TIMEOUT_SECONDS: Final = 60.0
"""Without a byte for so long, a connection counts as broken."""
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
_NO_ADDRESS: Final = frozenset({"UnsupportedProtocol", "InvalidURL"})
"""What the client's HTTP library raises before it asks anybody."""
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


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
        self._endpoint = endpoint
        self._token = token
        self._progress = progress
        self._stopping = threading.Event()
        self._warning = threading.Lock()
        self._client: Any = import_module("huggingface_hub")
        self._tools: Any = import_module("huggingface_hub.utils")
        said = self._tools.logging
        if said.get_verbosity() == logging.WARNING:  # nobody has asked for remarks, and some are no help
            said.set_verbosity_error()

    @cached_property
    def api(self) -> Any:
        """The client's whole interface: what pushing needs, and slow to import."""
        with warnings.catch_warnings():  # the environment may have decided on bars already; then it has
            warnings.simplefilter("ignore")
            self._tools.disable_progress_bars()
        return self._client.HfApi(endpoint=self._endpoint, token=self._token, library_name="mpstore")

    @property
    def endpoint(self) -> str:
        return self._endpoint or str(import_module("huggingface_hub.constants").ENDPOINT)

    @property
    def offline(self) -> bool:
        return bool(import_module("huggingface_hub.constants").HF_HUB_OFFLINE)

    def resolve(self, address: Address) -> HubModel:
        """The commit an address means now, and its files. RemoteError: not there, not allowed, no answer."""
        self.check_online()
        model = f"{self.endpoint}/api/models/{address.repo_id}"

        def ask() -> HubModel:
            revision = address.revision and f"/revision/{quote(address.revision, safe='')}"
            commit = commit_of(address, self._asked(model + (revision or "")).json())
            return model_of(address, commit, self._pages(f"{model}/tree/{commit}?recursive=true"))

        return self.retrying(ask, str(address))

    def _asked(self, url: str) -> Any:
        """A response that is no error; the client's exceptions otherwise."""
        response = self._client.get_session().get(
            url, headers=self._headers({}), follow_redirects=True, timeout=TIMEOUT_SECONDS
        )
        self._tools.hf_raise_for_status(response)
        return response

    def _pages(self, url: str) -> Iterator[Any]:
        """The entries of a list that comes in pages."""
        next_url: str | None = url
        while next_url is not None:
            response = self._asked(next_url)
            yield from response.json()
            next_url = response.links.get("next", {}).get("url")

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        sent: dict[str, str] = self._tools.build_hf_headers(
            token=self._token, library_name="mpstore", headers=headers
        )
        return sent

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
        sent = {**self._headers(headers), "Accept-Encoding": "identity"}
        session: Any = self._client.get_session()
        return session.stream("GET", url, headers=sent, follow_redirects=True, timeout=TIMEOUT_SECONDS)

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
        if type(error).__name__ in _NO_ADDRESS:
            return None
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
        if type(error).__name__ in _NO_ADDRESS:
            return RemoteError(
                f"{what}: {self.endpoint} is no address of a Hub ({reason})",
                hint="HF_ENDPOINT is to be https://HOST or http://HOST; without it the Hub is huggingface.co",
            )
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
