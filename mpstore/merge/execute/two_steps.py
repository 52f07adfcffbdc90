"""One tensor that is looked at before it is merged: facts come first, or runs cross the borders of blocks.

Relies on machine, facts, apply and runs. Promises: every block is read once; between the looks it is kept
decoded where that fits, else encoded, else in the scratch file.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from mpstore.merge.execute import apply, runs
from mpstore.merge.execute.apply import Raws
from mpstore.merge.execute.facts import FactFinder
from mpstore.merge.execute.machine import Machine, output_bytes
from mpstore.merge.execute.reading import BlockFrames, Hold, Scratch
from mpstore.merge.execute.run import Latch, Result, TensorRun, pack_facts
from mpstore.merge.execute.work import Rows
from mpstore.merge.operators.protocol import Facts
from mpstore.store import Frame


class TwoSteps:
    """One tensor that is looked at before it is merged."""

    def __init__(self, machine: Machine, run: TensorRun, facts: Facts | None) -> None:
        self._machine = machine
        self._run = run
        self._facts = facts
        self._finder = FactFinder(run.work) if facts is None else None
        self._decoded: dict[int, Raws] | None = None
        self._hold: Hold | None = None
        self._scratch = Scratch(machine.store.layout.tmp)
        self.spills = False

    def plan_memory(self, memory_bytes: int) -> int:
        """Choose how the blocks are kept; the bytes to set aside until the tensor is done."""
        work = self._run.work
        encoded = work.encoded_bytes(work.seen)
        decoded = work.decoded_bytes(work.seen)
        output = output_bytes(work, work.needed)
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
        self._machine.counters.spilled_bytes += self._scratch.spilled_bytes
        self._scratch.close()

    def look_at(self, span: Rows, step: Future[None]) -> None:
        """Read a span and look at its blocks; `step` is done when all are."""
        seen = Latch(int(span.size), lambda: step.set_result(None))

        def look(block: int, frames: BlockFrames[Frame]) -> None:
            self._machine.submit(self._run, 0, lambda: self._look(block, frames, seen))

        self._machine.read(self._run, span, look)

    def _look(self, block: int, frames: BlockFrames[Frame], seen: Latch) -> None:
        if self._decoded is not None:
            self._decoded[block] = raws = apply.decode(self._machine.store, frames)
            self._observe(block, raws.base.raw, raws.experts)
        else:
            assert self._hold is not None
            if self._finder is not None:
                self._observe_frames(block, frames)
            self._hold.put(block, frames)
        seen.done()
        self._latch.done()

    def _observe_frames(self, block: int, frames: BlockFrames[Frame]) -> None:
        store = self._machine.store
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
                    self._machine.submit(run, 1, lambda block=block: self._look_again(block))  # type: ignore[misc]
                return
            self._remember(facts)
            self._facts = facts
        if run.work.aligned:
            for block in run.work.needed.tolist():
                self._machine.submit(run, 2, lambda block=block: self._merge(block))  # type: ignore[misc]
        else:
            for part in runs.runs(run.work):
                self._machine.submit(run, 2, lambda part=part: self._merge_run(part))  # type: ignore[misc]

    def _remember(self, facts: Facts) -> None:
        if self._machine.memo is not None:
            self._machine.memo.put(self._run.facts_key(), pack_facts(facts))

    def _merge(self, block: int) -> None:
        run, facts = self._run, self._facts
        assert facts is not None
        raws: Any = self._decoded.pop(block) if self._decoded is not None else None
        if raws is None:
            assert self._hold is not None
            raws = self._hold.get(block)
            self._hold.drop(block)
        future = run.results[block]
        made = apply.merge_block(self._machine.store, self._machine.writer, run.work, block, raws, facts)
        self._merging.done()
        future.set_result(Result(block, run.key(block, facts), made))

    def _merge_run(self, part: runs.Run) -> None:
        run, facts = self._run, self._facts
        assert facts is not None
        for block, made in runs.merge_run(self._machine.writer, run.work, part, self._raws, facts):
            future = run.results.get(block)
            if future is not None:
                self._merging.done()
                future.set_result(Result(block, run.key(block, facts), made))

    def _raws(self, block: int) -> Raws:
        if self._decoded is not None:
            return self._decoded[block]
        assert self._hold is not None
        return apply.decode(self._machine.store, self._hold.get(block))
