"""The body of one answer, into the caller's buffers.

Relies on hub and the client's responses (httpx's interface). Promises: bytes in order, none twice; memory is
a piece. A long body is taken from the connection itself once its headers are through: the HTTP parser looks
at every piece of it, which costs more than receiving it does.
"""

from __future__ import annotations

from typing import Any, Final

from mpstore.remotes.hub import TIMEOUT_SECONDS

LONG_BYTES: Final = 32 << 20
"""A body taken past the parser ends its connection, so it has to be worth a new one."""
_PIECE_BYTES: Final = 1 << 18


class Body:
    """`readinto` an opened streaming response. `length`: bytes that it announces (None: it does not say)."""

    def __init__(self, response: Any, length: int | None) -> None:
        self._pieces = response.iter_raw()
        self._left = memoryview(b"")
        self._lacking = length
        self._connection = _connection(response) if length is not None and length >= LONG_BYTES else None
        self._begun = False

    def readinto(self, view: memoryview) -> int:
        """At least one byte, as long as there is any."""
        if not self._left:
            if self._begun and self._connection is not None and self._lacking is not None:
                return self._take(view)
            self._left = memoryview(self._piece())  # what the parser had read beside the headers comes whole
            self._begun = True
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _piece(self) -> bytes:
        for piece in self._pieces:
            if piece:
                if self._lacking is not None:
                    self._lacking -= len(piece)
                return bytes(piece)
        return b""

    def _take(self, view: memoryview) -> int:
        wanted = min(len(view), self._lacking or 0, _PIECE_BYTES)
        if not wanted:
            return 0
        assert self._connection is not None
        assert self._lacking is not None
        data = self._connection.read(wanted, timeout=TIMEOUT_SECONDS)
        view[: len(data)] = data
        self._lacking -= len(data)
        return len(data)

    def skip(self, count: int) -> None:
        """Leave out what comes before the wanted bytes."""
        scratch = memoryview(bytearray(min(count, _PIECE_BYTES)))
        while count and (got := self.readinto(scratch[:count])):
            count -= got

    def has_more(self) -> bool:
        """Whether anything follows; a parser that has seen the end can use its connection again."""
        if self._begun and self._connection is not None:
            return bool(self._left or self._lacking)
        return bool(self._left or self._piece())


def _connection(response: Any) -> Any:
    """Where the bytes of a plain HTTP/1.1 body come from; None: they are framed or packed in any way."""
    headers = response.headers
    if response.http_version != "HTTP/1.1" or "transfer-encoding" in headers or "content-encoding" in headers:
        return None
    stream = response.extensions.get("network_stream")
    return stream if callable(getattr(stream, "read", None)) else None
