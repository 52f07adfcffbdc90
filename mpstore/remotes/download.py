"""A file of the Hub as a stream from any offset that survives cut connections.

Relies on hub and body. Promises: gives exactly the asked bytes or an error; a connection that breaks is taken
up where it broke, a bounded number of times without progress; an answer whose length or range is not what was
asked is refused (a server that ignores Range is read past).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

from mpstore.errors import RemoteError
from mpstore.remotes.body import Body
from mpstore.remotes.hub import TRIES, Hub, Transient, transient_status
from mpstore.remotes.listing import HubFile, HubModel

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")


class HubStream:
    """Bytes [start, stop) of one file, as a context manager; `taken` hears of every byte received."""

    def __init__(
        self,
        hub: Hub,
        model: HubModel,
        file: HubFile,
        start: int = 0,
        stop: int | None = None,
        taken: Callable[[int], None] | None = None,
    ) -> None:
        self._hub = hub
        self._where = f"{model.address}: {file.path}"
        self._url = hub.url(model, file.path)
        self._size = file.size
        self._position = start
        self._stop = file.size if stop is None else stop
        self._taken = taken
        self._failures = 0
        self._open = contextlib.ExitStack()
        self._body: Body | None = None
        self._reads_past = False

    def __enter__(self) -> HubStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        buffer = bytearray(min(size, self._stop - self._position))
        return bytes(buffer[: self.readinto(memoryview(buffer))]) if buffer else b""

    def fill(self, view: memoryview) -> None:
        """Fill the whole view; what is asked must lie in the range."""
        at = 0
        while at < len(view):
            got = self.readinto(view[at:])
            if not got:
                raise RemoteError(f"{self._where}: no bytes behind {self._stop}")
            at += got

    def readinto(self, view: memoryview) -> int:
        """At least one byte, where the range has any left."""
        view = view[: self._stop - self._position]
        while view:
            self._hub.check_running()
            try:
                got = self._receive(view)
            except RemoteError:
                self._disconnect()
                raise
            except Exception as error:
                self._try_again(error)
                continue
            self._failures = 0
            if self._taken is not None:
                self._taken(got)
            return got
        return 0

    def _receive(self, view: memoryview) -> int:
        """Some more bytes; connects, or connects again, where needed."""
        if self._body is None:
            self._body = self._connect()
        got = self._body.readinto(view)
        if not got:
            raise Transient(f"the body ended at byte {self._position} of {self._stop}")
        self._position += got
        if self._position == self._stop and not self._reads_past and self._body.has_more():
            raise RemoteError(
                f"{self._where}: the server sends more than the {self._stop} bytes it promised",
                hint="the Hub's listing and its storage disagree; try again later",
            )
        return got

    def _try_again(self, error: Exception) -> None:
        """Wait, to connect again where it broke; raises where that has failed too often."""
        self._disconnect()
        transient = self._hub.transient(error)
        self._failures += 1
        if transient is None or self._failures >= TRIES:
            raise self._hub.translate(error, self._where) from error
        self._hub.wait(self._failures - 1, transient)

    def _connect(self) -> Body:
        whole = self._position == 0 and self._stop == self._size
        headers = {} if whole else {"Range": f"bytes={self._position}-{self._stop - 1}"}
        response = self._open.enter_context(self._hub.get(self._url, headers))
        status = response.status_code
        if status not in (200, 206):
            raise self._refused(response, status)
        body = Body(response, self._checked_length(response, partial=status == 206))
        self._reads_past = status == 200 and self._stop < self._size
        if status == 200:  # the whole file, whatever was asked
            body.skip(self._position)
        return body

    def _checked_length(self, response: Any, *, partial: bool) -> int | None:
        if partial:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._position:
                raise Transient(f"asked from byte {self._position}, was answered {found and found[0]}")
        length = response.headers.get("Content-Length", "")
        expected = self._size if not partial else self._stop - self._position
        if length.isdigit() and int(length) != expected:
            raise Transient(f"the server announces {length} bytes where {expected} were listed")
        return expected if length.isdigit() else None

    def _refused(self, response: Any, status: int) -> Exception:
        transient = transient_status(status, dict(response.headers))
        if transient is not None:
            return transient
        reasons = {401: "log in: `hf auth login` or HF_TOKEN", 403: "the token has no access to it"}
        what = "listed by the Hub, but not there" if status == 404 else f"HTTP {status}"
        return RemoteError(f"{self._where}: {what}", hint=reasons.get(status, "try again later"))

    def _disconnect(self) -> None:
        self._body = None
        with contextlib.suppress(Exception):  # what a broken connection says on closing is of no interest
            self._open.close()
        self._open = contextlib.ExitStack()
