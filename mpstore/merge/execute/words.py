"""Merging 16-bit words without float32 arrays between, where operator and dtypes allow.

Relies on the merge_words kernels. Promises: the bits of the way over float32 arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.kernels.leaning_numpy import Blocks, Merged
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_numpy import Sources
from mpstore.merge.execute.bases import BaseRaw
from mpstore.merge.execute.reading import BlockPieces
from mpstore.merge.execute.work import TensorWork
from mpstore.merge.operators.protocol import Facts
from mpstore.merge.operators.task_vectors import chosen
from mpstore.store import Piece, leaning_kind

Bytes: TypeAlias = npt.NDArray[np.uint8]


def fit(work: TensorWork) -> bool:
    """Whether the base and all that is stored of the experts are words of one 16-bit float type."""
    name = work.base.dtype.name
    return name in ("BF16", "F16") and all(
        expert.formed is None and (expert.stored is None or expert.stored.dtype.name == name)
        for expert in work.experts
    )


class Columns:
    """What the kernel is told of the experts of one tensor, for all of them or for some."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._of: dict[tuple[int, ...], Terms] = {}

    def of(self, present: tuple[int, ...]) -> Terms:
        """The rows of some experts: the same object for the same ones, as most blocks ask for."""
        found = self._of.get(present)
        if found is None:
            found = self._of[present] = chosen(self._terms, present)
        return found


_last = threading.local()


def columns(work: TensorWork, facts: Facts) -> Columns | None:
    """What the kernel is told of the experts; None: it cannot do this work."""
    known = getattr(_last, "known", None)
    if known is None or known[0] is not work or known[1] is not facts:
        known = _last.known = work, facts, _columns(work, facts)
    found: Columns | None = known[2]
    return found


def _columns(work: TensorWork, facts: Facts) -> Columns | None:
    if work.operator.terms is None or not work.same_dtype or not fit(work):
        return None
    terms = work.operator.terms(facts, work.context)
    return None if terms is None else Columns(terms)


def sources(
    work: TensorWork, base: Bytes, experts: Sequence[Bytes | None]
) -> tuple[Sources, tuple[int, ...]]:
    """One block's words, and which experts they are of (the others have nothing here)."""
    present = _present(experts)
    items = [raw for raw in experts if raw is not None]
    return Sources(base, items, work.plain(present), work.base.dtype.name == "F16"), present


def merge(
    work: TensorWork, block: int, base: Bytes, experts: Sequence[Bytes | None], terms: Columns
) -> tuple[Bytes, list[int]]:
    """The merged block, and how many values of the base and of each expert's delta are NaN or infinite."""
    given, present = sources(work, base, experts)
    out = np.empty(base.nbytes // 2, np.uint16)
    kernel = kernels.pick("merge_words")
    odd = kernel.combine(given, terms.of(present), work.span(block)[0], out).tolist()
    return out.view(np.uint8), _counts(odd, present, len(experts))


class _Read(NamedTuple):
    """A block as it was read: its place among those asked for, its offset in the tensor, experts, base."""

    place: int
    start: int
    experts: list[Piece]
    base: BaseRaw


def merge_pieces(
    work: TensorWork,
    blocks: Sequence[int],
    pieces: Sequence[BlockPieces[Piece]],
    bases: Sequence[BaseRaw],
    terms: Columns,
    verified: bool,
) -> dict[int, Merged]:
    """The blocks, by their place among `blocks`, whose experts' frames can be decoded and merged at once:
    counts as of `merge`. The others have something odd that is to be looked into."""
    alike: dict[tuple[tuple[int, ...], int], list[_Read]] = {}
    for place, (block, one, base) in enumerate(zip(blocks, pieces, bases, strict=True)):
        present = _present(one.experts)
        if present and base.id == base.leans_on and base.raw.size:
            experts = [piece for piece in one.experts if piece is not None]
            read = _Read(place, work.span(block)[0], experts, base)
            alike.setdefault((present, base.raw.size), []).append(read)
    found: dict[int, Merged] = {}
    for (present, _), reads in alike.items():
        merged = _merge_alike(work, present, reads, terms, verified)
        for read, made in zip(reads, merged, strict=True):
            if made is not None:
                counts = _counts(made.nonfinite, present, len(work.experts))
                found[read.place] = made._replace(nonfinite=counts)
    return found


def _merge_alike(
    work: TensorWork, present: tuple[int, ...], reads: Sequence[_Read], terms: Columns, verified: bool
) -> list[Merged | None]:
    """Of the same experts and of one size."""
    taken = [piece for read in reads for piece in read.experts]
    given = Blocks(
        [piece.data for piece in taken],
        b"".join([piece.id for piece in taken]),
        [read.base.raw for read in reads],
        b"".join([read.base.id for read in reads]),
        work.plain(present),
        [read.start for read in reads],
    )
    kind, half = leaning_kind(reads[0].base.form), work.base.dtype.name == "F16"
    merged: list[Merged | None] = kernels.pick("leaning").merge(
        given, kind, terms.of(present), half, not verified
    )
    return merged


def _present(experts: Sequence[Any]) -> tuple[int, ...]:
    """Which experts have something here."""
    return tuple([place for place, one in enumerate(experts) if one is not None])


def _counts(odd: Sequence[int], present: Sequence[int], experts: int) -> list[int]:
    """Counts of the base and of the experts that are there, as those of all."""
    if len(present) == experts:
        return list(odd)
    counts = [odd[0], *([0] * experts)]
    for place, count in zip(present, odd[1:], strict=True):
        counts[1 + place] = count
    return counts
