"""Merging what must stay together: rows or whole tensors that reach over the borders of blocks.

Relies on apply and the operator. Promises: the operator sees runs that begin and end at multiples of its
unit; which blocks are computed together changes no bit. Memory: the run in float32, once an expert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mpstore.merge.execute import apply, convert
from mpstore.merge.execute.apply import F32, Made, Nonfinite, Raws
from mpstore.merge.execute.work import TensorWork
from mpstore.merge.operators.protocol import Block, Facts
from mpstore.store import ObjectWriter

_ROWS_AT_LEAST = 8


@dataclass(frozen=True)
class Run:
    """Blocks first .. last - 1 are made from the blocks around_first .. around_last - 1."""

    first: int
    last: int
    around_first: int
    around_last: int


def runs(work: TensorWork) -> Iterator[Run]:
    """All blocks of the tensor in runs of a few units each, in order."""
    blocks = work.base_record.blocks
    step = max(1, -(-_ROWS_AT_LEAST * work.unit // work.block_elements))
    for first in range(0, blocks, step):
        last = min(first + step, blocks)
        start, stop = _units(work, first, last)
        yield Run(first, last, start // work.block_elements, -(-stop // work.block_elements))


def around(work: TensorWork, block: int) -> range:
    """The blocks whose content a block's depends on."""
    start, stop = _units(work, block, block + 1)
    return range(start // work.block_elements, -(-stop // work.block_elements))


def _units(work: TensorWork, first: int, last: int) -> tuple[int, int]:
    """Elements of the whole units that touch the blocks."""
    start = work.span(first)[0] // work.unit * work.unit
    stop = -(-work.span(last - 1)[1] // work.unit) * work.unit
    return start, min(stop, work.elements)


def merge_run(
    writer: ObjectWriter, work: TensorWork, run: Run, read: Callable[[int], Raws], facts: Facts
) -> list[tuple[int, Made]]:
    """The operator on one run; `read` gives a block decoded."""
    raws = {block: read(block) for block in range(run.around_first, run.around_last)}
    base, deltas, odd = _gather(work, run, raws)
    start, stop = _units(work, run.first, run.last)
    offset = run.around_first * work.block_elements
    inside = slice(start - offset, stop - offset)
    inputs = tuple(None if delta is None else delta[inside] for delta in deltas)
    merged = work.operator.apply(Block(start, base[inside], inputs), facts, work.context)
    made = []
    for block in range(run.first, run.last):
        first, last = work.span(block)
        decoded = raws[block].base
        values = np.ascontiguousarray(merged[first - start : last - start])
        narrowed = convert.narrow(
            values,
            base[first - offset : last - offset],
            decoded.raw if work.same_dtype else None,
            work.out_dtype,
        )
        hint = apply.hint(work, decoded)
        made.append((block, Made(writer.prepare(narrowed, hint), odd[block])))
    return made


def _gather(
    work: TensorWork, run: Run, raws: dict[int, Raws]
) -> tuple[F32, list[F32 | None], dict[int, Nonfinite]]:
    """Base and deltas of a run, each in one array; None for an expert with nothing in any of its blocks."""
    offset = run.around_first * work.block_elements
    elements = work.span(run.around_last - 1)[1] - offset
    base = np.empty(elements, np.float32)
    deltas: list[F32 | None] = [None] * len(work.experts)
    odd = {}
    for block, raw in raws.items():
        start, stop = work.span(block)
        part = slice(start - offset, stop - offset)
        bad = convert.widen(raw.base.raw, work.base.dtype, base[part])
        found, bad_experts = apply.deltas(work, block, base[part], raw.experts)
        odd[block] = Nonfinite(bad, bad_experts)
        for place, delta in enumerate(found):
            if delta is not None:
                whole = deltas[place]
                if whole is None:
                    whole = deltas[place] = np.zeros(elements, np.float32)
                whole[part] = delta
    return base, deltas, odd
