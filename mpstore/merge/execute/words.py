"""Merging 16-bit words without float32 arrays between, where operator and dtypes allow.

Relies on the merge_words kernels. Promises: the bits of the way over float32 arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.ids import ObjectId
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
    present = tuple([place for place, raw in enumerate(experts) if raw is not None])
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


def merge_pieces(
    work: TensorWork,
    blocks: Sequence[int],
    pieces: Sequence[BlockPieces[Piece]],
    bases: Sequence[BaseRaw],
    terms: Columns,
    verified: bool,
) -> dict[int, tuple[Bytes, list[int], ObjectId]]:
    """The blocks, by their place among `blocks`, whose experts' frames can be decoded and merged at once:
    merged words, counts as of `merge`, and id. The others have something odd that is to be looked into."""
    alike: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for k, (one, base) in enumerate(zip(pieces, bases, strict=True)):
        present = tuple([place for place, piece in enumerate(one.experts) if piece is not None])
        if present and base.id == base.leans_on and base.raw.size:
            alike.setdefault((present, base.raw.size), []).append(k)
    found: dict[int, tuple[Bytes, list[int], ObjectId]] = {}
    for (present, _), places in alike.items():
        merged = _merge_alike(work, present, places, blocks, pieces, bases, terms, verified)
        for k, made in zip(places, merged, strict=True):
            if made is not None:
                found[k] = made.raw, _counts(made.nonfinite, present, len(work.experts)), made.id
    return found


def _merge_alike(
    work: TensorWork,
    present: tuple[int, ...],
    places: Sequence[int],
    blocks: Sequence[int],
    pieces: Sequence[BlockPieces[Piece]],
    bases: Sequence[BaseRaw],
    terms: Columns,
    verified: bool,
) -> list[Merged | None]:
    """Of the same experts and of one size."""
    taken = [piece for k in places for piece in pieces[k].experts if piece is not None]
    given = Blocks(
        [piece.data for piece in taken],
        b"".join([piece.id for piece in taken]),
        [bases[k].raw for k in places],
        b"".join([bases[k].id for k in places]),
        work.plain(present),
        [work.span(blocks[k])[0] for k in places],
    )
    kind, half = leaning_kind(bases[places[0]].form), work.base.dtype.name == "F16"
    merged: list[Merged | None] = kernels.pick("leaning").merge(
        given, kind, terms.of(present), half, not verified
    )
    return merged


def _counts(odd: Sequence[int], present: Sequence[int], experts: int) -> list[int]:
    """Counts of the base and of the experts that are there, as those of all."""
    if len(present) == experts:
        return list(odd)
    counts = [odd[0], *([0] * experts)]
    for place, count in zip(present, odd[1:], strict=True):
        counts[1 + place] = count
    return counts
