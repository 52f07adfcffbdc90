"""The machine a merge runs on: store and writer, readers and crew, and how much of it may be used.

Relies on the store, crew and reading. Promises: an error of any piece of work reaches every result that hangs
on it; `close` returns when nothing runs any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mpstore import heap
from mpstore.merge.execute.crew import Crew
from mpstore.merge.execute.limits import Limits
from mpstore.merge.execute.memo import Memo
from mpstore.merge.execute.reading import BlockPieces, SpanRead
from mpstore.merge.execute.run import Latch, TensorRun
from mpstore.merge.execute.work import Rows, TensorWork
from mpstore.store import ObjectStore, ObjectWriter, Piece, Prepared

Group: TypeAlias = list[int]
Pieces: TypeAlias = list[BlockPieces[Piece]]
GROUP_BYTES: Final = 4 << 20  # of the base's blocks in a group
MOST_GROUPED: Final = 32


@dataclass
class Counters:
    """What a run did."""

    new_blocks: int = 0  # made, and not in the store before
    memo_blocks: int = 0  # made by an earlier run, found by the memo
    spilled_bytes: int = 0  # encoded bytes that went through the scratch file
    nonfinite: dict[str, dict[str, int]] = field(default_factory=dict)


class Machine:
    """What works are run with. Any thread may submit."""

    def __init__(self, store: ObjectStore, writer: ObjectWriter, memo: Memo | None, limits: Limits) -> None:
        self.store, self.writer, self.memo, self.limits = store, writer, memo, limits
        self.counters = Counters()
        heap.keep_freed()
        self._readers = ThreadPoolExecutor(limits.readers, "merge-read")
        self._appender = ThreadPoolExecutor(1, "merge-write")  # an interruption never hits it midway
        self._crew = Crew(limits.threads, "merge")
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let nothing begin that has not begun."""
        self._stopping.set()

    def close(self) -> None:
        """End all threads."""
        self.stop()
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._crew.stop()
        self._appender.shutdown(wait=True)
        heap.give_back()

    def read(self, run: TensorRun, span: Rows, then: Callable[[Group, Pieces], None]) -> None:
        """Read a span's sources in parallel; then hand over group after group."""
        reading = SpanRead(self.store, run.work, span)
        parts = reading.parts()

        def ready() -> None:
            for group in groups(run.work, span):
                then(group, [reading.block(block) for block in group])

        latch = Latch(len(parts), ready)
        for part in parts:
            self._readers.submit(self._guarded, run, part, latch)

    def _guarded(self, run: TensorRun, part: Callable[[], None], latch: Latch) -> None:
        if self._stopping.is_set():
            return
        try:
            part()
            latch.done()
        except BaseException as error:
            run.fail(error)

    def submit(self, run: TensorRun, step: int, call: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                call()
            except BaseException as error:
                run.fail(error)

        self._crew.submit((run.sequence, step), guarded)

    def append(self, prepared: Sequence[Prepared]) -> None:
        """Write blocks behind the ones before them."""
        self._appender.submit(self._append, prepared).result()

    def _append(self, prepared: Sequence[Prepared]) -> None:
        for one in prepared:
            self.writer.append(one)

    def flush(self) -> None:
        """Publish what was appended, then the memo that names it."""
        self._appender.submit(self.writer.flush).result()
        if self.memo is not None:
            self.memo.flush()


def groups(work: TensorWork, blocks: Rows) -> Iterator[Group]:
    """Blocks that one thread does together: so few calls do much, and yet all threads have something."""
    per_block = max(1, work.block_elements * work.base.dtype.bits // 8)
    size = max(1, min(GROUP_BYTES // per_block, MOST_GROUPED))
    numbers = blocks.tolist()
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def output_bytes(work: TensorWork, blocks: Rows) -> int:
    """Bytes of so many output blocks, not encoded."""
    return int(blocks.size) * work.block_elements * work.out_dtype.bits // 8
