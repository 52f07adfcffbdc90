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

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mpstore.events import Progress, Task, silent
from mpstore.merge.execute import apply
from mpstore.merge.execute.limits import Limits
from mpstore.merge.execute.machine import Counters, Group, Machine, Pieces, groups, output_bytes
from mpstore.merge.execute.memo import Memo
from mpstore.merge.execute.run import Result, Results, TensorRun, unpack_facts
from mpstore.merge.execute.two_steps import TwoSteps
from mpstore.merge.execute.work import Rows, TensorWork
from mpstore.merge.operators.protocol import Facts
from mpstore.store import ObjectStore, ObjectWriter

MOST_APPENDED: Final = 16  # groups of blocks that are appended at once
_LEAST_WAIT_SECONDS: Final = 0.05
SPAN_BYTES: Final = 96 << 20  # decoded bytes of all sources that are read and queued together


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
        self._machine = Machine(store, writer, memo, limits)
        self._progress = progress
        self._pending: deque[_Pending] = deque()
        self._in_flight_bytes = 0
        self._sequence = 0
        self._flushed = time.monotonic()
        self._told_bytes = store.meter.read_bytes("expert")
        self._task: Task | None = None

    @property
    def counters(self) -> Counters:
        """What was done so far."""
        return self._machine.counters

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._machine.close()

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
        data = self._machine.memo.get(run.facts_key()) if self._machine.memo is not None else None
        return None if data is None else unpack_facts(data)

    def _unknown(self, run: TensorRun, facts: Facts) -> Rows:
        """The needed blocks that the memo does not have (all, where blocks are not made one by one)."""
        if self._machine.memo is None or self._machine.memo.empty:
            return run.work.needed
        keys = self._keys(run, facts)
        found: dict[int, bytes] = {}
        for block in run.work.needed.tolist():
            known = self._machine.memo.get(keys(block))
            if known is not None and self._machine.writer.adopt(known):
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
        size = max(1, min(SPAN_BYTES, self._machine.limits.memory_bytes // 4) // per_block)
        for start in range(0, blocks.size, size):
            yield blocks[start : start + size]

    def _stream(self, run: TensorRun, blocks: Rows, facts: Facts) -> None:
        """Read, merge, forget."""
        work = run.work
        for span in self._spans(work, blocks):
            cost = work.encoded_bytes(span) + output_bytes(work, span)
            self._make_room(cost)
            futures = [run.expect(group) for group in groups(work, span)]
            self._machine.read(run, span, lambda group, pieces: self._merge_later(run, group, facts, pieces))
            self._expect(run, futures, cost)

    def _merge_later(self, run: TensorRun, group: Group, facts: Facts, pieces: Pieces) -> None:
        self._machine.submit(run, 0, lambda: self._merge(run, group, facts, pieces))

    def _merge(self, run: TensorRun, group: Group, facts: Facts, pieces: Pieces) -> None:
        machine = self._machine
        made = apply.merge_pieces(machine.store, machine.writer, run.work, group, pieces, facts)
        run.finish(group, facts, made)

    def _in_two_steps(self, run: TensorRun, facts: Facts | None) -> None:
        """Look at every block and keep it, then merge: where facts come first, or runs cross blocks."""
        steps = TwoSteps(self._machine, run, facts)
        work = run.work
        keep = steps.plan_memory(self._machine.limits.memory_bytes)
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
        self._expect(run, [run.results[group[0]] for group in steps.groups], keep)
        if steps.spills:  # its room is needed before the next tensor may ask for any
            self._drain()

    # Collecting

    def _make_room(self, wanted: int) -> None:
        while self._pending and self._in_flight_bytes + wanted > self._machine.limits.memory_bytes:
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
        """Wait for the oldest result and append it, and what else is there behind it."""
        while self._pending and not self._came(self._pending[0].future):
            self._take_out_of_turn()  # which takes the oldest, too, if it has come just now
            self._flush()
        ready: list[_Pending] = []
        while self._pending and len(ready) < MOST_APPENDED and self._pending[0].future.done():
            self._pending[0].future.result()
            ready.append(self._pending.popleft())
        self._append(ready)
        self._tell()
        if time.monotonic() - self._flushed > self._machine.limits.flush_seconds:
            self._flush()

    def _came(self, future: Future[Any]) -> bool:
        """Wait for a result, or until it is time to flush."""
        if future.done():
            return True
        left = self._flushed + self._machine.limits.flush_seconds - time.monotonic()
        done, _ = wait([future], timeout=max(_LEAST_WAIT_SECONDS, left))
        return bool(done)

    def _take_out_of_turn(self) -> None:
        """What is done behind a result that is not: a merge that is killed keeps it."""
        done = [one.future.done() and one.future.exception() is None for one in self._pending]
        ready = [one for one, is_done in zip(self._pending, done, strict=True) if is_done]
        left = [one for one, is_done in zip(self._pending, done, strict=True) if not is_done]
        self._pending = deque(left)
        self._append(ready)

    def _append(self, ready: Sequence[_Pending]) -> None:
        self._take([(one.run, one.future.result()) for one in ready if one.run is not None])
        self._in_flight_bytes -= sum(one.release for one in ready)

    def _take(self, ready: Sequence[tuple[TensorRun, Sequence[Result]]]) -> None:
        self._machine.append([result.made.prepared for _, results in ready for result in results])
        for run, results in ready:
            del run.results[results[0].block]
            self._keep(run, results)

    def _keep(self, run: TensorRun, results: Sequence[Result]) -> None:
        for result in results:
            made = result.made
            run.keep(result.block, made.prepared.id)
            self.counters.new_blocks += not made.prepared.reused
            if made.nonfinite.any:
                run.nonfinite += [made.nonfinite.base, *made.nonfinite.experts]
            if self._machine.memo is not None:
                self._machine.memo.put(result.key, made.prepared.id)

    def _tell(self) -> None:
        read = self._machine.store.meter.read_bytes("expert")
        if read > self._told_bytes:
            if self._task is not None:
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
        self._machine.flush()
        self._flushed = time.monotonic()

    def _abandon(self) -> None:
        """Keep what is done: append the results that are there, flush, and let the error go on."""
        self._machine.stop()
        self._take_out_of_turn()
        self._flush()


__all__ = ["Counters", "Executor"]
