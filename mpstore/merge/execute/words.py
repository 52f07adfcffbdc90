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
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_numpy import Sources
from mpstore.merge.execute.work import TensorWork
from mpstore.merge.operators.protocol import Facts
from mpstore.merge.operators.task_vectors import chosen

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
    counts = [odd[0], *([0] * len(experts))]
    for place, count in zip(present, odd[1:], strict=True):
        counts[1 + place] = count
    return out.view(np.uint8), counts
