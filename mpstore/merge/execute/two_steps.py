"""One tensor that is looked at before it is merged: facts come first, or runs cross the borders of blocks.

Relies on machine, facts, apply and runs. Promises: every block is read once; between the looks it is kept
decoded where that fits, else encoded, else in the scratch file.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

from mpstore.merge.execute import apply, runs
from mpstore.merge.execute.apply import Raws
from mpstore.merge.execute.facts import FactFinder
from mpstore.merge.execute.machine import Group, Machine, Pieces, groups, output_bytes
from mpstore.merge.execute.reading import Hold, Scratch
from mpstore.merge.execute.run import Latch, TensorRun, pack_facts
from mpstore.merge.execute.work import Rows
from mpstore.merge.operators.protocol import Facts


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
        self.groups = list(groups(work, work.needed)) if work.aligned else [[b] for b in work.needed.tolist()]
        for group in self.groups:
            self._run.expect(group)
        self._latch = Latch(int(work.seen.size), self._conclude)
        self._merging = Latch(len(self._run.results), self._close)

    def _close(self) -> None:
        """All blocks are merged."""
        self._machine.counters.spilled_bytes += self._scratch.spilled_bytes
        self._scratch.close()

    def look_at(self, span: Rows, step: Future[None]) -> None:
        """Read a span and look at its blocks; `step` is done when all are."""
        seen = Latch(int(span.size), lambda: step.set_result(None))

        def look(group: Group, pieces: Pieces) -> None:
            self._machine.submit(self._run, 0, lambda: self._look(group, pieces, seen))

        self._machine.read(self._run, span, look)

    def _look(self, group: Group, pieces: Pieces, seen: Latch) -> None:
        if self._hold is None or self._finder is not None:
            for block, raws in zip(group, apply.decode(self._machine.store, pieces), strict=True):
                self._observe(block, raws)
                if self._decoded is not None:
                    self._decoded[block] = raws
        if self._hold is not None:
            for block, one in zip(group, pieces, strict=True):
                self._hold.put(block, one)
        seen.done(len(group))
        self._latch.done(len(group))

    def _observe(self, block: int, raws: Raws) -> None:
        if self._finder is None:
            return
        if self._finder.takes_words:
            self._finder.observe_words(raws.base.raw, raws.experts)
            return
        work = self._run.work
        start, stop = work.span(block)
        base, _ = apply.widen_base(work, raws.base.raw, stop - start)
        deltas, _ = apply.deltas(work, block, base, raws.experts)
        self._finder.observe(block, base, deltas)

    def _look_again(self, group: Group) -> None:
        for block, raws in zip(group, self._raws_of(group), strict=True):
            self._observe(block, raws)
        self._latch.done(len(group))

    def _raws_of(self, group: Group) -> Iterator[Raws]:
        """Blocks that were looked at before."""
        if self._decoded is not None:
            return iter([self._decoded[block] for block in group])
        return apply.decode(self._machine.store, *self._held(group))

    def _held(self, group: Group) -> tuple[Pieces, bool]:
        """What was kept as it was read, and whether it has been verified and was in memory ever since."""
        assert self._hold is not None
        kept = [self._hold.get(block) for block in group]
        verified = self._finder is not None and all(in_memory for _, in_memory in kept)
        return [pieces for pieces, _ in kept], verified

    def _conclude(self) -> None:
        """All blocks were seen: the facts, or another pass. Runs in the thread that saw the last."""
        run = self._run
        if self._finder is not None:
            facts = self._finder.conclude()
            if facts is None:
                self._latch = Latch(int(run.work.seen.size), self._conclude)
                for group in groups(run.work, run.work.seen):
                    self._machine.submit(run, 1, lambda group=group: self._look_again(group))  # type: ignore[misc]
                return
            self._remember(facts)
            self._facts = facts
        if run.work.aligned:
            for group in self.groups:
                self._machine.submit(run, 2, lambda group=group: self._merge(group))  # type: ignore[misc]
        else:
            for part in runs.runs(run.work):
                self._machine.submit(run, 2, lambda part=part: self._merge_run(part))  # type: ignore[misc]

    def _remember(self, facts: Facts) -> None:
        if self._machine.memo is not None:
            self._machine.memo.put(self._run.facts_key(), pack_facts(facts))

    def _merge(self, group: Group) -> None:
        run, facts, machine = self._run, self._facts, self._machine
        assert facts is not None
        if self._decoded is not None:
            raws = [self._decoded.pop(block) for block in group]
            made = apply.merge_blocks(machine.writer, run.work, group, raws, facts)
        else:
            assert self._hold is not None
            pieces, verified = self._held(group)
            made = apply.merge_pieces(machine.store, machine.writer, run.work, group, pieces, facts, verified)
            for block in group:
                self._hold.drop(block)
        self._merging.done()
        run.finish(group, facts, made)

    def _merge_run(self, part: runs.Run) -> None:
        run, facts = self._run, self._facts
        assert facts is not None
        for block, made in runs.merge_run(self._machine.writer, run.work, part, self._raws, facts):
            if block in run.results:
                self._merging.done()
                run.finish([block], facts, [made])

    def _raws(self, block: int) -> Raws:
        return next(self._raws_of([block]))
