"""One tensor on its way through the pipeline: what is known, what is waited for, what came out.

Relies on apply, facts, memo and reading. Promises: safe to use from the worker threads; an error of any step
reaches every result that hangs on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, NamedTuple, TypeAlias

import msgpack  # type: ignore[import-untyped]
import numpy as np

from mpstore.ids import ID_BYTES, ObjectId
from mpstore.merge.execute import runs
from mpstore.merge.execute.apply import Made
from mpstore.merge.execute.memo import key_of
from mpstore.merge.execute.work import Stored, TensorWork
from mpstore.merge.operators.protocol import Facts


class Result(NamedTuple):
    """An output block, made now."""

    block: int
    key: ObjectId
    made: Made


Results: TypeAlias = "Future[Sequence[Result]]"


class Latch:
    """Counts down from many threads; the last one calls."""

    def __init__(self, count: int, call: Callable[[], None]) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._call = call

    def done(self, count: int = 1) -> None:
        """So many less."""
        with self._lock:
            self._left -= count
            last = self._left == 0
        if last:
            self._call()


class TensorRun:
    """The mutable side of a `TensorWork`."""

    def __init__(self, work: TensorWork, sequence: int) -> None:
        self.work = work
        self.sequence = sequence
        self.ids = bytearray(work.base_record.block_ids)
        self.nonfinite = np.zeros(1 + len(work.experts), np.int64)
        self.results: dict[int, Results] = {}
        self.steps: list[Future[None]] = []
        self._identity = _identity(work)
        self._keys: dict[int, ObjectId] = {}
        self._identified: tuple[Facts, list[bytes]] | None = None

    def expect(self, group: Sequence[int]) -> Results:
        """The future of some blocks that are made together, kept under the first."""
        future: Results = Future()
        self.results[group[0]] = future
        return future

    def finish(self, group: Sequence[int], facts: Facts, made: Sequence[Made]) -> None:
        """The blocks of a future are made."""
        results = [Result(block, self.key(block, facts), one) for block, one in zip(group, made, strict=True)]
        self.results[group[0]].set_result(results)

    def fail(self, error: BaseException) -> None:
        """Give the error to every result that is still expected."""
        waiting: list[Future[Any]] = [*self.steps, *self.results.values()]
        for future in waiting:
            with contextlib.suppress(InvalidStateError):  # it has its result
                future.set_exception(error)

    def keep(self, block: int, object_id: ObjectId) -> None:
        """The block's id is known."""
        self.ids[block * ID_BYTES : (block + 1) * ID_BYTES] = object_id

    def key(self, block: int, facts: Facts) -> ObjectId:
        """The memo's key of a block: everything its bytes depend on.

        Experts enter sorted by what they bring, since an operator is a function of the set of them; their own
        keys enter only where masks hang on them.
        A block that is made together with others depends on these too.
        """
        known = self._keys.get(block)
        if known is not None:
            return known
        if self.work.aligned:
            found = self._block_key(block, facts)
        else:
            around = runs.around(self.work, block)
            found = key_of("run", block, [self._block_key(other, facts) for other in around])
        self._keys[block] = found
        return found

    def _block_key(self, block: int, facts: Facts) -> ObjectId:
        work = self.work
        if self._identified is None or self._identified[0] is not facts:
            self._identified = facts, [self._source(place, facts) for place in range(len(work.experts))]
        sources = [
            identity + expert.stored.record.block(block)
            if expert.stored is not None and expert.reads(block)
            else identity
            for identity, expert in zip(self._identified[1], work.experts, strict=True)
        ]
        order = sorted(range(len(sources)), key=sources.__getitem__)
        index = [0, *(place + 1 for place in order)]
        return key_of(
            "block",
            self._identity,
            work.span(block),
            work.base_record.block(block),
            [sources[place] for place in order],
            None if facts.gram is None else facts.gram[np.ix_(index, index)].tobytes(),
        )

    def _source(self, place: int, facts: Facts) -> bytes:
        """What an expert brings to all blocks alike: 32 bytes."""
        expert, context = self.work.experts[place], self.work.context.experts[place]
        mask = context.key if self.work.operator.random else b""
        formed = None if expert.formed is None else list(expert.formed.source_ids)
        dtype = "" if expert.stored is None else expert.stored.dtype.name
        thresholds = list(facts.thresholds[place]) if facts.thresholds else []
        return key_of("source", expert.kind, dtype, formed, _plain(context.params), mask, thresholds)

    def facts_key(self) -> ObjectId:
        """The memo's key of the tensor's facts."""
        work = self.work
        sources = [
            [expert.kind, expert.stored.dtype.name, _ids(expert.stored), expert.stored.blocks.tobytes()]
            if expert.stored is not None
            else [expert.kind, list(expert.formed.source_ids) if expert.formed is not None else None]
            for expert in work.experts
        ]
        seen = b"".join(work.base_record.block(block) for block in work.seen.tolist())
        ranks = [list(asked) for asked in work.ranks]
        edges = [list(values) for values in work.edges]
        return key_of("facts", work.base.dtype.name, work.elements, seen, sources, ranks, edges, work.gram)


def _ids(stored: Stored) -> bytes:
    return stored.locations.ids.tobytes()


def _plain(params: Mapping[str, Any]) -> bytes:
    data: bytes = msgpack.packb(sorted(params.items()))
    return data


def _identity(work: TensorWork) -> ObjectId:
    """What all blocks of the tensor share."""
    context = work.context
    return key_of(
        work.operator.name,
        _plain(context.params),
        context.seed if work.operator.random else 0,
        work.key if work.operator.random else "",
        list(work.shape),
        work.block_elements,
        work.base.dtype.name,
        work.out_dtype.name,
    )


def pack_facts(facts: Facts) -> bytes:
    """Facts as the memo keeps them."""
    gram = None if facts.gram is None else [len(facts.gram), facts.gram.tobytes()]
    data: bytes = msgpack.packb([[list(values) for values in facts.thresholds], gram])
    return data


def unpack_facts(data: bytes) -> Facts | None:
    """Inverse; None where the entry is not what it must be."""
    try:
        thresholds, gram = msgpack.unpackb(data)
        matrix = None
        if gram is not None:
            matrix = np.frombuffer(gram[1], np.float64).reshape(gram[0], gram[0])
        return Facts(tuple(tuple(float(v) for v in values) for values in thresholds), matrix)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException):
        return None
