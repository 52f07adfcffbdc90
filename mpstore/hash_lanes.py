"""SHA-256 of many files in one thread, side by side: where that takes hardly longer than one of them.

Relies on kernels' `sha256` modules. Promises: pieces of a file are hashed in order; no file waits long for
another's bytes; an error reaches everybody whose hash it spoils.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

from mpstore.ids import Buffer

_SMALL_BYTES: Final = 64 << 10  # not worth a place in a lane
_PATIENCE_SECONDS: Final = 0.1
POINT_BYTES: Final = 32 << 20


class Stopped(Exception):
    """What `submit` raises after `stop`. Who stopped has a better reason to tell."""


class FileHash(Protocol):
    """The SHA-256 of one file under way. For one thread; a context manager."""

    def __enter__(self) -> FileHash: ...

    def __exit__(self, *_: object) -> None: ...

    def submit(self, data: Buffer) -> Future[None]:
        """Have `data` hashed behind what came before it; it must not change before the result is there."""

    def digest(self) -> bytes:
        """Of everything submitted."""

    @property
    def points(self) -> Sequence[bytes]:
        """Where the hash stood after each POINT_BYTES; nothing where that is not known."""


class _Piece:
    """Bytes to be hashed; `view` is what is left of them. `to_point`: they end where a point is kept."""

    def __init__(self, view: memoryview, to_point: bool) -> None:
        self.view = view
        self.to_point = to_point
        self.done: Future[None] = Future()


class Lane:
    """A hash that goes on together with others. While there are pieces in `pending`, `own` belongs to the
    thread of `Lanes`, whose lock guards all else."""

    def __init__(self, lanes: Lanes, own: Any, size: int | None, stopped: threading.Event) -> None:
        self.own = own
        self.pending: deque[_Piece] = deque()
        self.late = False
        self.failed: BaseException | None = None
        self.lacking_bytes = size
        self.points: list[bytes] = []
        self._until_point = POINT_BYTES
        self._lanes = lanes
        self._stopped = stopped

    def __enter__(self) -> Lane:
        self._lanes.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._lanes.leave(self)

    @property
    def expected(self) -> bool:
        """Whether the others should wait for what comes next here."""
        return not self.pending and not self.late and self.lacking_bytes != 0

    def submit(self, data: Buffer) -> Future[None]:
        if self._stopped.is_set():
            raise Stopped
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        while view.nbytes > (room := self._until_point):
            self._submit(view[:room])
            view = view[room:]
        return self._submit(view)

    def _submit(self, view: memoryview) -> Future[None]:
        """Of bytes that pass no point, but may reach one."""
        self._until_point -= view.nbytes
        piece = _Piece(view, not self._until_point)
        self._until_point = self._until_point or POINT_BYTES
        if piece.view.nbytes < _SMALL_BYTES and not self.pending:
            self.own.update(piece.view)
            self.passed(piece)
            piece.done.set_result(None)
        self._lanes.submit(self, piece)
        return piece.done

    def passed(self, piece: _Piece) -> None:
        """The hash stands behind this piece. For whom `own` belongs to, before it is another's."""
        if piece.to_point:
            self.points.append(self.own.point())

    def digest(self) -> bytes:
        self._lanes.ended(self)
        if self.failed is not None:  # what follows a gap is another file's hash
            raise self.failed
        found: bytes = self.own.digest()
        return found


class Lanes:
    """The thread that goes on with every file that has a piece, with all of them at once."""

    def __init__(self, module: Any) -> None:
        self._together = module.together
        self._most: int = module.lanes()
        self._open: list[Lane] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        with self._changed:  # after a second Ctrl-C somebody may still wait: for nothing
            for lane in self._open:
                self._fail(lane)

    def enter(self, lane: Lane) -> None:
        with self._changed:
            self._open.append(lane)

    def leave(self, lane: Lane) -> None:
        """Forget a lane, and what of it was not hashed yet."""
        with self._changed:
            self._open.remove(lane)
            lane.pending.clear()
            self._changed.notify()

    def _fail(self, lane: Lane) -> None:
        """Let go whoever waits for what was not hashed."""
        while lane.pending:
            lane.failed = Stopped()
            lane.pending.popleft().done.set_exception(lane.failed)

    def submit(self, lane: Lane, piece: _Piece) -> None:
        with self._changed:
            if lane.lacking_bytes is not None:
                lane.lacking_bytes = max(0, lane.lacking_bytes - piece.view.nbytes)
            if not piece.done.done():
                if self._closed:
                    raise Stopped
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="mp-sha256", daemon=True)
                    thread.start()
                    self._thread = thread
                lane.late = False
                lane.pending.append(piece)
            self._changed.notify()

    def ended(self, lane: Lane) -> None:
        """Nothing more comes in this lane: wait for what came."""
        with self._changed:
            lane.lacking_bytes = 0
            last = lane.pending[-1] if lane.pending else None
            self._changed.notify()
        if last is not None:
            last.done.result()

    def _run(self) -> None:
        while turn := self._turn():
            try:
                self._step(turn)
            except BaseException as error:  # to those who wait for it
                for lane, piece in turn:
                    self._conclude(lane, piece, error)

    def _turn(self) -> list[tuple[Lane, _Piece]]:
        """Lanes and their pieces to go on with; none: it is over.

        Files that are read side by side come to their ends of tensors at different times: a lane that has
        nothing is waited for, as all lanes together take hardly longer than one, but not for long.
        """
        deadline = None
        with self._changed:
            while not self._closed:
                ready = [lane for lane in self._open if lane.pending]
                if len(ready) >= self._most or (ready and not any(lane.expected for lane in self._open)):
                    return [(lane, lane.pending[0]) for lane in ready[: self._most]]
                if not ready:
                    self._changed.wait()
                    continue
                now = time.monotonic()
                deadline = now + _PATIENCE_SECONDS if deadline is None else deadline
                if now < deadline:
                    self._changed.wait(deadline - now)
                else:
                    for lane in self._open:
                        lane.late = not lane.pending
        return []

    def _step(self, turn: list[tuple[Lane, _Piece]]) -> None:
        """Go on by what all have; a piece that is much shorter than the others' does not hold them up."""
        small = [(lane, piece) for lane, piece in turn if piece.view.nbytes < _SMALL_BYTES]
        for lane, piece in small:
            lane.own.update(piece.view)
            lane.passed(piece)
            self._conclude(lane, piece)
        if small:
            return
        step = min(piece.view.nbytes for _, piece in turn)
        self._together([lane.own for lane, _ in turn], [piece.view[:step] for _, piece in turn])
        for lane, piece in turn:
            piece.view = piece.view[step:]
            if not piece.view.nbytes:
                lane.passed(piece)
                self._conclude(lane, piece)

    def _conclude(self, lane: Lane, piece: _Piece, error: BaseException | None = None) -> None:
        if piece.done.done():
            return
        with self._changed:
            lane.failed = lane.failed or error
            if lane.pending and lane.pending[0] is piece:
                lane.pending.popleft()
            if len(self._open) > self._most and lane in self._open:  # then others take their turn
                self._open.remove(lane)
                self._open.append(lane)
        if error is None:
            piece.done.set_result(None)
        else:
            piece.done.set_exception(error)
