"""A file of the Hub as a stream from any offset that survives cut connections.

Relies on hub. Promises: gives exactly the asked bytes or an error; a connection that breaks is taken up
where it broke, a bounded number of times without progress; an answer whose length or range is not what was
asked is refused (a server that ignores Range is read past).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from mpstore.errors import RemoteError
from mpstore.remotes.hub import TRIES, Hub, HubFile, HubModel, Transient, transient_status

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")


class HubStream:
    """Bytes [start, stop) of one file. `read(n)`, `readinto(view)`; `taken` hears of every byte received."""

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
        self._pieces: Iterator[bytes] | None = None
        self._left = memoryview(b"")

    def __enter__(self) -> HubStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    def read(self, size: int) -> bytes:
        while not self._left and self._position < self._stop:
            self._receive()
        part = self._left[:size]
        self._left = self._left[len(part) :]
        return bytes(part)

    def fill(self, view: memoryview) -> None:
        """Fill the whole view; what is asked must lie in the range."""
        at = 0
        while at < len(view):
            got = self.readinto(view[at:])
            if not got:
                raise RemoteError(f"{self._where}: no bytes behind {self._stop}")
            at += got

    def readinto(self, view: memoryview) -> int:
        while not self._left and self._position < self._stop:
            self._receive()
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _receive(self) -> None:
        """One more piece; connects, or connects again, where needed."""
        try:
            if self._pieces is None:
                self._connect()
            assert self._pieces is not None
            piece = next(self._pieces, None)
            if piece is None:
                raise Transient(f"the body ended at byte {self._position} of {self._stop}")
            self._accept(piece)
        except RemoteError:
            self._disconnect()
            raise
        except Exception as error:
            self._disconnect()
            transient = self._hub.transient(error)
            self._failures += 1
            if transient is None or self._failures >= TRIES:
                raise self._hub.translate(error, self._where) from error
            self._hub.wait(self._failures - 1, transient)

    def _accept(self, piece: bytes) -> None:
        self._hub.check_running()
        if len(piece) > self._stop - self._position:
            raise RemoteError(
                f"{self._where}: the server sends more than the {self._stop} bytes it promised",
                hint="the Hub's listing and its storage disagree; try again later",
            )
        self._position += len(piece)
        self._left = memoryview(piece)
        if piece:
            self._failures = 0
            if self._taken is not None:
                self._taken(len(piece))

    def _connect(self) -> None:
        whole = self._position == 0 and self._stop == self._size
        headers = {} if whole else {"Range": f"bytes={self._position}-{self._stop - 1}"}
        response = self._open.enter_context(self._hub.get(self._url, headers))
        status = response.status_code
        if status not in (200, 206):
            raise self._refused(response, status)
        skip = self._position if status == 200 else 0
        self._check_length(response, partial=status == 206)
        self._pieces = self._body(response, skip)

    def _check_length(self, response: Any, *, partial: bool) -> None:
        if partial:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._position:
                raise Transient(f"asked from byte {self._position}, was answered {found and found[0]}")
        length = response.headers.get("Content-Length", "")
        expected = self._size if not partial else self._stop - self._position
        if length.isdigit() and int(length) != expected:
            raise Transient(f"the server announces {length} bytes where {expected} were listed")

    def _body(self, response: Any, skip: int) -> Iterator[bytes]:
        """The pieces of the body as they arrive (gathering them would lose some to a cut), without the first
        `skip` bytes and what lies behind the asked range."""
        for piece in response.iter_raw():
            if skip >= len(piece):
                skip -= len(piece)
                continue
            piece = piece[skip:]
            skip = 0
            yield piece if self._stop == self._size else piece[: self._stop - self._position]
            if self._position >= self._stop and self._stop < self._size:
                return

    def _refused(self, response: Any, status: int) -> Exception:
        transient = transient_status(status, dict(response.headers))
        if transient is not None:
            return transient
        reasons = {401: "log in: `hf auth login` or HF_TOKEN", 403: "the token has no access to it"}
        what = "listed by the Hub, but not there" if status == 404 else f"HTTP {status}"
        return RemoteError(f"{self._where}: {what}", hint=reasons.get(status, "try again later"))

    def _disconnect(self) -> None:
        self._pieces = None
        with contextlib.suppress(Exception):  # what a broken connection says on closing is of no interest
            self._open.close()
        self._open = contextlib.ExitStack()
