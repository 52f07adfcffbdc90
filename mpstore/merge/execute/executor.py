"""The pipeline: reads ahead, works on all cores, appends in order, never holds more than it was allowed.

Relies on every module of this room, the store and the progress sink. Promises: reads exactly the blocks that
the works name, each once; results do not depend on threads or memory; on an error or an interruption what
was made is flushed together with its memo, so that the next run goes on from there.

One thread (the caller's) decides and collects: it starts reads while the bytes in flight stay below the
bound, and waits for the oldest result when they would not. Reads run in one pool, all else in a crew that
prefers the oldest tensor. Memory is promised to a span before it is read, in tensor order, so the oldest
tensor always has what it needs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mpstore import heap
from mpstore.events import Progress, silent
from mpstore.merge.execute import apply, runs
from mpstore.merge.execute.apply import Raws
from mpstore.merge.execute.crew import Crew
from mpstore.merge.execute.facts import FactFinder
from mpstore.merge.execute.memo import Memo
from mpstore.merge.execute.reading import BlockFrames, Hold, Scratch, SpanRead
from mpstore.merge.execute.run import Latch, Result, Results, TensorRun, pack_facts, unpack_facts
from mpstore.merge.execute.work import Rows, TensorWork
from mpstore.merge.operators.protocol import Facts
from mpstore.store import Frame, ObjectStore, ObjectWriter

SPAN_BYTES: Final = 24 << 20  # decoded bytes of all sources that are read and queued together


@dataclass(frozen=True)
class Limits:
    """How much of the machine a merge may use: `threads` that compute, `readers` that read, `memory_bytes`
    for everything in flight (encoded and decoded blocks; the interpreter and its libraries come on top).
    `flush_seconds`: how much work a killed merge loses at most."""

    threads: int = 2
    readers: int = 4
    memory_bytes: int = 384 << 20
    flush_seconds: float = 8.0


@dataclass
class Counters:
    """What a run did."""

    new_blocks: int = 0  # made, and not in the store before
    memo_blocks: int = 0  # made by an earlier run, found by the memo
    spilled_bytes: int = 0  # encoded bytes that went through the scratch file
    nonfinite: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class _Pending:
    """Something to wait for, and the bytes that are free after it. `run` None: only a step on the way."""

    future: Future[Any]
    run: TensorRun | None
    release: int


class Executor:
    """Runs the works of one plan. Use as a context manager: leaving it ends its threads."""

    def __init__(
        self,
        store: ObjectStore,
        writer: ObjectWriter,
        memo: Memo | None,
        limits: Limits,
        progress: Progress = silent,
    ) -> None:
        self._store, self._writer, self._memo, self._limits = store, writer, memo, limits
        self._progress = progress
        heap.keep_freed()
        self._readers = ThreadPoolExecutor(limits.readers, "merge-read")
        self._appender = ThreadPoolExecutor(1, "merge-write")  # an interruption never hits it midway
        self._crew = Crew(limits.threads, "merge")
        self._pending: deque[_Pending] = deque()
        self._in_flight_bytes = 0
        self._sequence = 0
        self._flushed = time.monotonic()
        self._stopping = threading.Event()
        self._told_bytes = store.meter.read_bytes("expert")
        self._task: Any = None
        self.counters = Counters()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stopping.set()
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._crew.stop()
        self._appender.shutdown(wait=True)
        heap.give_back()

    def run(self, works: Iterable[TensorWork], total_bytes: int) -> Iterator[tuple[TensorWork, bytes]]:
        """Each work with the ids of its output blocks, in the order of `works`."""
        self._task = self._progress.task("reading experts", total_bytes, "bytes")
        started: deque[TensorRun] = deque()
        try:
            for work in works:
                run = TensorRun(work, self._sequence)
                self._sequence += 1
                started.append(run)
                self._start(run)
                yield from self._finished(started)
            while self._pending:
                self._collect()
                yield from self._finished(started)
            yield from self._finished(started)
        except BaseException:
            self._abandon()
            raise
        finally:
            self._task.finish()

    # Starting

    def _start(self, run: TensorRun) -> None:
        facts = self._known_facts(run)
        if facts is not None:
            wanted = self._unknown(run, facts)
            if not wanted.size:
                return
            if run.work.aligned:
                self._stream(run, wanted, facts)
                return
        elif not run.work.needed.size:
            return
        self._in_two_steps(run, facts)

    def _known_facts(self, run: TensorRun) -> Facts | None:
        """Facts that need no look at the data: nothing asked, or the memo's."""
        if not run.work.facts_first:
            return Facts(run.work.edges)
        data = self._memo.get(run.facts_key()) if self._memo is not None else None
        return None if data is None else unpack_facts(data)

    def _unknown(self, run: TensorRun, facts: Facts) -> Rows:
        """The needed blocks that the memo does not have (all, where blocks are not made one by one)."""
        if self._memo is None:
            return run.work.needed
        keys = self._keys(run, facts)
        found: dict[int, bytes] = {}
        for block in run.work.needed.tolist():
            known = self._memo.get(keys(block))
            if known is not None and self._writer.adopt(known):
                found[block] = known
            elif not run.work.aligned:
                return run.work.needed
        for block, known in found.items():
            run.keep(block, known)
        self.counters.memo_blocks += len(found)
        return np.array([b for b in run.work.needed.tolist() if b not in found], np.int64)

    def _keys(self, run: TensorRun, facts: Facts) -> Callable[[int], bytes]:
        return lambda block: run.key(block, facts)

    def _spans(self, work: TensorWork, blocks: Rows) -> Iterator[Rows]:
        per_block = max(1, work.decoded_bytes(blocks) // max(1, blocks.size))
        size = max(1, min(SPAN_BYTES, self._limits.memory_bytes // 8) // per_block)
        for start in range(0, blocks.size, size):
            yield blocks[start : start + size]

    def _stream(self, run: TensorRun, blocks: Rows, facts: Facts) -> None:
        """Read, merge, forget."""
        work = run.work
        for span in self._spans(work, blocks):
            cost = work.encoded_bytes(span) + self._output_bytes(work, span)
            self._make_room(cost)
            futures = [run.expect(block) for block in span.tolist()]
            self._read(run, span, lambda block, frames: self._merge_later(run, block, facts, frames))
            self._expect(run, futures, cost)

    def _output_bytes(self, work: TensorWork, blocks: Rows) -> int:
        return int(blocks.size) * work.block_elements * work.out_dtype.bits // 8

    def _merge_later(self, run: TensorRun, block: int, facts: Facts, frames: Any) -> None:
        self._submit(run, 0, lambda: self._merge(run, block, facts, frames))

    def _merge(self, run: TensorRun, block: int, facts: Facts, frames: Any) -> None:
        made = apply.merge_block(self._store, self._writer, run.work, block, frames, facts)
        run.results[block].set_result(Result(block, run.key(block, facts), made))

    def _in_two_steps(self, run: TensorRun, facts: Facts | None) -> None:
        """Look at every block and keep it, then merge: where facts come first, or runs cross blocks."""
        steps = _TwoSteps(self, run, facts)
        work = run.work
        keep = steps.plan_memory(self._limits.memory_bytes)
        self._make_room(keep)
        steps.begin()
        for span in self._spans(work, work.seen):
            transient = work.encoded_bytes(span) if steps.spills else 0
            self._make_room(transient)
            step: Future[None] = Future()
            run.steps.append(step)
            steps.look_at(span, step)
            if transient:
                self._pending.append(_Pending(step, None, transient))
        self._expect(run, [run.results[block] for block in work.needed.tolist()], keep)
        if steps.spills:  # its room is needed before the next tensor may ask for any
            self._drain()

    # Reading and computing

    def _read(self, run: TensorRun, span: Rows, then: Callable[[int, BlockFrames[Frame]], None]) -> None:
        """Read a span's sources in parallel; then hand over block after block."""
        reading = SpanRead(self._store, run.work, span)
        parts = reading.parts()

        def ready() -> None:
            for block in span.tolist():
                then(block, reading.block(block))

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

    def _submit(self, run: TensorRun, step: int, call: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                call()
            except BaseException as error:
                run.fail(error)

        self._crew.submit((run.sequence, step), guarded)

    # Collecting

    def _make_room(self, wanted: int) -> None:
        while self._pending and self._in_flight_bytes + wanted > self._limits.memory_bytes:
            self._collect()
        self._in_flight_bytes += wanted

    def _expect(self, run: TensorRun, futures: list[Results], release: int) -> None:
        for place, future in enumerate(futures):
            last = place + 1 == len(futures)
            self._pending.append(_Pending(future, run, release if last else 0))

    def _drain(self) -> None:
        while self._pending:
            self._collect()

    def _collect(self) -> None:
        """Wait for the oldest result and append it."""
        oldest = self._pending[0]
        result = oldest.future.result()
        self._pending.popleft()
        if oldest.run is not None:
            self._take(oldest.run, result)
        self._in_flight_bytes -= oldest.release
        self._tell()
        if time.monotonic() - self._flushed > self._limits.flush_seconds:
            self._flush()

    def _take(self, run: TensorRun, result: Result) -> None:
        del run.results[result.block]
        made = result.made
        assert made is not None
        own_id = self._appender.submit(self._writer.append, made.prepared).result()
        run.keep(result.block, own_id)
        self.counters.new_blocks += not made.prepared.reused
        if made.nonfinite.any:
            run.nonfinite += [made.nonfinite.base, *made.nonfinite.experts]
        if self._memo is not None:
            self._memo.put(result.key, own_id)

    def _tell(self) -> None:
        read = self._store.meter.read_bytes("expert")
        if read > self._told_bytes:
            self._task.advance(read - self._told_bytes)
            self._told_bytes = read

    def _finished(self, started: deque[TensorRun]) -> Iterator[tuple[TensorWork, bytes]]:
        """The oldest tensors, as far as all their blocks are known."""
        while started and not started[0].results:
            run = started.popleft()
            if run.nonfinite.any():
                self._report(run)
            yield run.work, bytes(run.ids)

    def _report(self, run: TensorRun) -> None:
        labels = ["base", *(str(place) for place in range(len(run.work.experts)))]
        self.counters.nonfinite[run.work.key] = {
            label: int(count) for label, count in zip(labels, run.nonfinite, strict=True) if count
        }

    def _flush(self) -> None:
        self._appender.submit(self._writer.flush).result()
        if self._memo is not None:
            self._memo.flush()
        self._flushed = time.monotonic()

    def _abandon(self) -> None:
        """Keep what is done: append the results that are there, flush, and let the error go on."""
        self._stopping.set()
        while self._pending:
            oldest = self._pending.popleft()
            if not oldest.future.done() or oldest.future.exception() is not None:
                break
            if oldest.run is not None:
                self._take(oldest.run, oldest.future.result())
        self._flush()


class _TwoSteps:
    """One tensor that is looked at before it is merged."""

    def __init__(self, owner: Executor, run: TensorRun, facts: Facts | None) -> None:
        self._owner = owner
        self._run = run
        self._facts = facts
        self._finder = FactFinder(run.work) if facts is None else None
        self._decoded: dict[int, Raws] | None = None
        self._hold: Hold | None = None
        self._scratch = Scratch(owner._store.layout.tmp)
        self.spills = False

    def plan_memory(self, memory_bytes: int) -> int:
        """Choose how the blocks are kept; the bytes to set aside until the tensor is done."""
        work = self._run.work
        encoded = work.encoded_bytes(work.seen)
        decoded = work.decoded_bytes(work.seen)
        output = self._owner._output_bytes(work, work.needed)
        if encoded + decoded + output <= memory_bytes // 3:
            self._decoded = {}
            return encoded + decoded + output
        self.spills = encoded + output > memory_bytes // 2
        limit = min(encoded, memory_bytes // 2)
        self._hold = Hold(self._scratch, limit)
        return limit

    def begin(self) -> None:
        """Expect a result for every needed block."""
        work = self._run.work
        for block in work.needed.tolist():
            self._run.expect(block)
        self._latch = Latch(int(work.seen.size), self._conclude)
        self._merging = Latch(len(self._run.results), self._close)

    def _close(self) -> None:
        """All blocks are merged."""
        self._owner.counters.spilled_bytes += self._scratch.spilled_bytes
        self._scratch.close()

    def look_at(self, span: Rows, step: Future[None]) -> None:
        """Read a span and look at its blocks; `step` is done when all are."""
        seen = Latch(int(span.size), lambda: step.set_result(None))

        def look(block: int, frames: BlockFrames[Frame]) -> None:
            self._owner._submit(self._run, 0, lambda: self._look(block, frames, seen))

        self._owner._read(self._run, span, look)

    def _look(self, block: int, frames: BlockFrames[Frame], seen: Latch) -> None:
        if self._decoded is not None:
            self._decoded[block] = raws = apply.decode(self._owner._store, frames)
            self._observe(block, raws.base.raw, raws.experts)
        else:
            assert self._hold is not None
            if self._finder is not None:
                self._observe_frames(block, frames)
            self._hold.put(block, frames)
        seen.done()
        self._latch.done()

    def _observe_frames(self, block: int, frames: BlockFrames[Frame]) -> None:
        store = self._owner._store
        base = apply.decode_base(store, frames)
        self._observe(block, base.raw, apply.decode_experts(store, frames, base))

    def _observe(self, block: int, base_raw: Any, experts: Any) -> None:
        if self._finder is None:
            return
        work = self._run.work
        start, stop = work.span(block)
        base, _ = apply.widen_base(work, base_raw, stop - start)
        deltas, _ = apply.deltas(work, block, base, experts)
        self._finder.observe(block, base, deltas)

    def _look_again(self, block: int) -> None:
        if self._decoded is not None:
            raws = self._decoded[block]
            self._observe(block, raws.base.raw, raws.experts)
        else:
            assert self._hold is not None
            self._observe_frames(block, self._hold.get(block))
        self._latch.done()

    def _conclude(self) -> None:
        """All blocks were seen: the facts, or another pass. Runs in the thread that saw the last."""
        run = self._run
        if self._finder is not None:
            facts = self._finder.conclude()
            if facts is None:
                self._latch = Latch(int(run.work.seen.size), self._conclude)
                for block in run.work.seen.tolist():
                    self._owner._submit(run, 1, lambda block=block: self._look_again(block))  # type: ignore[misc]
                return
            self._remember(facts)
            self._facts = facts
        if run.work.aligned:
            for block in run.work.needed.tolist():
                self._owner._submit(run, 2, lambda block=block: self._merge(block))  # type: ignore[misc]
        else:
            for part in runs.runs(run.work):
                self._owner._submit(run, 2, lambda part=part: self._merge_run(part))  # type: ignore[misc]

    def _remember(self, facts: Facts) -> None:
        if self._owner._memo is not None:
            self._owner._memo.put(self._run.facts_key(), pack_facts(facts))

    def _merge(self, block: int) -> None:
        run, facts = self._run, self._facts
        assert facts is not None
        raws: Any = self._decoded.pop(block) if self._decoded is not None else None
        if raws is None:
            assert self._hold is not None
            raws = self._hold.get(block)
            self._hold.drop(block)
        future = run.results[block]
        made = apply.merge_block(self._owner._store, self._owner._writer, run.work, block, raws, facts)
        self._merging.done()
        future.set_result(Result(block, run.key(block, facts), made))

    def _merge_run(self, part: runs.Run) -> None:
        run, facts = self._run, self._facts
        assert facts is not None
        for block, made in runs.merge_run(self._owner._writer, run.work, part, self._raws, facts):
            future = run.results.get(block)
            if future is not None:
                self._merging.done()
                future.set_result(Result(block, run.key(block, facts), made))

    def _raws(self, block: int) -> Raws:
        if self._decoded is not None:
            return self._decoded[block]
        assert self._hold is not None
        return apply.decode(self._owner._store, self._hold.get(block))
