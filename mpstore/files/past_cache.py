"""A staged file written past the page cache, for what will not be read soon.

Relies on staged and direct_io. Promises: what a StagedFile promises; where the system or the file system has
no such way, or wants it otherwise, it is written as any other. Such writes wait for the disk: another thread
does them.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from mpstore import direct_io
from mpstore.files.operations import Buffer, Path, announce, write_all
from mpstore.files.staged import BUFFER_BYTES, StagedFile

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_MOST_BEHIND: Final = 3  # buffers full and not written


class Hasher(Protocol):
    """What hears of all that is written, as those of hashlib and blake3 do."""

    def update(self, data: Any, /) -> Any: ...


class PastCacheFile(StagedFile):
    """One thread; `write` alone. `hasher` hears of what `write` gets, in order and in large pieces, in the
    thread that writes; of the last by `flush`, or when it is made durable. What fails in that thread is
    raised by a later `write` or `flush`, and by all after that."""

    def __init__(self, tmp_dir: Path, hasher: Hasher) -> None:
        self._hasher = hasher
        self._room: memoryview | None = None
        self._filled = 0
        self._taken_bytes = 0  # in full buffers, written or behind
        self._behind: deque[tuple[Future[None], memoryview]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._direct = -1
        self._wanted = True
        super().__init__(tmp_dir)

    def tell(self) -> int:
        return self._taken_bytes + self._filled

    def write(self, buffer: Buffer) -> None:
        """Append; all is gathered, in memory that lies as the file does."""
        view = memoryview(buffer)
        if view.nbytes:
            view = view.cast("B")
        while view.nbytes:
            if self._room is None:
                self._room = direct_io.room(BUFFER_BYTES, self._taken_bytes).data
            part = view[: BUFFER_BYTES - self._filled]
            self._room[self._filled : self._filled + part.nbytes] = part
            self._filled += part.nbytes
            view = view[part.nbytes :]
            if self._filled == BUFFER_BYTES:
                self._pass_on(self._room)

    def _pass_on(self, full: memoryview) -> None:
        """Have a full buffer written behind those before it."""
        if self._thread is None:
            from concurrent.futures import ThreadPoolExecutor  # which who only looks needs not

            self._thread = ThreadPoolExecutor(1, thread_name_prefix="mp-write")
        self._behind.append((self._thread.submit(self._take, full), full))
        self._taken_bytes += len(full)
        self._filled = 0
        self._room = self._written() if len(self._behind) > _MOST_BEHIND else None

    def _written(self) -> memoryview:
        """The buffer that was passed on first, once it is written."""
        future, buffer = self._behind[0]
        future.result()  # where that failed it stays the first: what lies behind the gap is never flushed
        self._behind.popleft()
        return buffer

    def _take(self, gathered: memoryview) -> None:
        self._hasher.update(gathered)
        self._put(gathered)

    def flush(self) -> None:
        while self._behind:
            self._written()
        if self._room is None or not self._filled:
            return
        gathered, self._filled = self._room[: self._filled], 0
        self._taken_bytes += len(gathered)
        self._take(gathered)
        self._room = None  # the next may lie otherwise

    def _write(self, view: memoryview, offset: int) -> None:
        head, body = direct_io.span(view, offset)
        if body and self._direct < 0 and self._wanted:
            self._direct = direct_io.open_direct(self.path, os.O_WRONLY)
            self._wanted = self._direct >= 0
        if not body or not self._wanted:
            super()._write(view, offset)
            return
        super()._write(view[:head], offset)
        self._write_direct(view[head : head + body], offset + head)
        super()._write(view[head + body :], offset + head + body)

    def _write_direct(self, pages: memoryview, offset: int) -> None:
        limit = announce("write", self.path, offset=offset, data=pages)
        if limit is None:
            written = self._pwrite_direct(pages, offset)
        else:
            written = os.pwrite(self._fd, pages[: max(1, limit)], offset)
        write_all(self._fd, self.path, pages[written:], offset + written)

    def _pwrite_direct(self, pages: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._direct, pages, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._wanted = False
            return 0

    def _close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
        super()._close()
