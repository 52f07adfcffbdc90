"""SHA-256 of files that stream by: in threads that do nothing else, many at once where that is cheaper.

Relies on kernels and pipeline. Promises: a file's pieces are hashed in order; a piece may change when its
future is done; no file waits long for another's bytes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Protocol

from mpstore import kernels
from mpstore.ids import Buffer
from mpstore.pipeline import in_parallel

_SMALL_BYTES: Final = 64 << 10  # not worth a place in a lane
_PATIENCE_SECONDS: Final = 0.1
POINT_BYTES: Final = 32 << 20
_MOST_AT_ONCE: Final = 8


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


class Lagging:
    """Submits to a hash that may lag behind by `most` pieces, so that memory is bounded: then it waits."""

    def __init__(self, own: FileHash, most: int) -> None:
        self._own = own
        self._most = most
        self._unhashed: deque[Future[None]] = deque()

    def submit(self, data: Buffer) -> Future[None]:
        """`FileHash.submit`."""
        while len(self._unhashed) >= self._most:
            self._unhashed.popleft().result()
        self._unhashed.append(self._own.submit(data))
        return self._unhashed[-1]


class Hashing:
    """Hashes for any number of files at a time. For any number of threads; a context manager.

    SHA-256 is a chain that no second thread can help with, and a third of what an ingest computes where the
    processor has no instructions for it. So each file's hash has a thread, and whoever reads goes on; but
    where hashes side by side in one thread take hardly longer than one, all files share that thread.
    """

    def __init__(self) -> None:
        self._module = kernels.pick("sha256")
        self._lanes = _Lanes(self._module) if self._module.lanes() > 1 else None
        self._stopped = threading.Event()

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lanes is not None:
            self._lanes.close()

    def at_once(self, files: int) -> int:
        """How many of so many files should stream by at a time: several where hashes side by side cost much
        less than one after the other, but no more than keep their bytes in memory at once."""
        return 1 if self._lanes is None else max(1, min(files, _MOST_AT_ONCE))

    def each(self, works: Sequence[Callable[[], None]]) -> None:
        """Do all of it, a work a file, so many at once. The first failure ends the others."""
        at_once = self.at_once(len(works))
        if at_once > 1:
            in_parallel(lambda work: work(), works, at_once, self.stop, Stopped)
            return
        for work in works:
            work()

    def begin(self, size: int | None = None) -> FileHash:
        """The hash of a file; of `size` bytes, if that is known."""
        if self._lanes is not None:
            return _Lane(self._lanes, self._module.sha256(), size, self._stopped)
        return _Chain(self._module.sha256(), self._stopped)

    @property
    def resumes(self) -> bool:
        """Whether `resume` can be called."""
        return self._lanes is not None

    def resume(self, point: bytes, after_bytes: int, size: int) -> FileHash:
        """The hash of `size` bytes more of a file, `point` (b"" at the beginning) being where it stood after
        so many, a multiple of POINT_BYTES."""
        if self._lanes is None:
            raise ValueError("no hash here begins in the middle")
        return _Lane(self._lanes, self._module.resumed(point, after_bytes), size, self._stopped)

    def stop(self) -> None:
        """Have everybody who submits fail."""
        self._stopped.set()


class _Chain:
    """A hash with a thread of its own."""

    points: Sequence[bytes] = ()

    def __init__(self, own: Any, stopped: threading.Event) -> None:
        self._own = own
        self._stopped = stopped
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mp-sha256")
        self._last: Future[None] | None = None
        self._failed: BaseException | None = None

    def __enter__(self) -> _Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def submit(self, data: Buffer) -> Future[None]:
        if self._stopped.is_set():
            raise Stopped
        self._last = self._thread.submit(self._update, data)
        return self._last

    def _update(self, data: Buffer) -> None:
        if self._failed is not None:  # what follows a gap is another file's hash
            raise self._failed
        try:
            self._own.update(data)
        except BaseException as error:
            self._failed = error
            raise

    def digest(self) -> bytes:
        if self._last is not None:
            self._last.result()
        found: bytes = self._own.digest()
        return found


class _Piece:
    """Bytes to be hashed; `view` is what is left of them. `to_point`: they end where a point is kept."""

    def __init__(self, view: memoryview, to_point: bool) -> None:
        self.view = view
        self.to_point = to_point
        self.done: Future[None] = Future()


class _Lane:
    """A hash that goes on together with others. While there are pieces in `pending`, `own` belongs to the
    thread of `_Lanes`, whose lock guards all else."""

    def __init__(self, lanes: _Lanes, own: Any, size: int | None, stopped: threading.Event) -> None:
        self.own = own
        self.pending: deque[_Piece] = deque()
        self.late = False
        self.failed: BaseException | None = None
        self.lacking_bytes = size
        self.points: list[bytes] = []
        self._until_point = POINT_BYTES
        self._lanes = lanes
        self._stopped = stopped

    def __enter__(self) -> _Lane:
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


class _Lanes:
    """The thread that goes on with every file that has a piece, with all of them at once."""

    def __init__(self, module: Any) -> None:
        self._together = module.together
        self._most: int = module.lanes()
        self._open: list[_Lane] = []
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

    def enter(self, lane: _Lane) -> None:
        with self._changed:
            self._open.append(lane)

    def leave(self, lane: _Lane) -> None:
        """Forget a lane, and what of it was not hashed yet."""
        with self._changed:
            self._open.remove(lane)
            lane.pending.clear()
            self._changed.notify()

    def _fail(self, lane: _Lane) -> None:
        """Let go whoever waits for what was not hashed."""
        while lane.pending:
            lane.failed = Stopped()
            lane.pending.popleft().done.set_exception(lane.failed)

    def submit(self, lane: _Lane, piece: _Piece) -> None:
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

    def ended(self, lane: _Lane) -> None:
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

    def _turn(self) -> list[tuple[_Lane, _Piece]]:
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

    def _step(self, turn: list[tuple[_Lane, _Piece]]) -> None:
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

    def _conclude(self, lane: _Lane, piece: _Piece, error: BaseException | None = None) -> None:
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
