"""The histograms of a record: columns that are taken apart when the first histogram is asked for.

Relies on varints and histogram. Promises: a plan, which asks for none, does not wait for hundreds of
thousands of counts; histograms that do not add up raise DamagedError when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mpstore.errors import DamagedError
from mpstore.statistics import varints
from mpstore.statistics.histogram import END_BITS, Histogram


def pack(keys: Sequence[str], histograms: Mapping[str, Histogram]) -> dict[str, npt.NDArray[Any]]:
    """The columns: how many bins each tensor has (0: no histogram), and their edges, counts and overs."""
    found = [histograms.get(key) for key in keys]
    present = [one for one in found if one is not None]
    none = np.zeros(0, np.int64)
    edges = [np.diff(one.edges.astype(np.int64), prepend=0) for one in present]
    return {
        "bins": np.array([0 if one is None else one.edges.size for one in found], np.uint32),
        "edges": varints.encode(np.concatenate([none, *edges])),
        "counts": varints.encode(np.concatenate([none, *(one.counts for one in present)])),
        "over": varints.encode(np.concatenate([none, *(one.over for one in present)])),
    }


class PackedHistograms(Mapping[str, Histogram]):
    """Tensor key -> histogram, of the tensors that have one."""

    def __init__(
        self,
        keys: Sequence[str],
        bins: npt.NDArray[np.integer],
        edges: npt.NDArray[np.uint8],
        counts: npt.NDArray[np.uint8],
        over: npt.NDArray[np.uint8] | None,
    ) -> None:
        """`over` None: the record was made before it was counted; then all may be above the edge."""
        self._keys, self._bins = keys, bins.astype(np.int64)
        self._edges, self._counts, self._over = edges, counts, over

    def __getitem__(self, key: str) -> Histogram:
        return self._found[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def _found(self) -> dict[str, Histogram]:
        total = int(self._bins.sum())
        steps, counts = varints.decode(self._edges, total), varints.decode(self._counts, total)
        over = counts if self._over is None else varints.decode(self._over, total)
        if (
            steps is None
            or counts is None
            or over is None
            or bool((counts < 1).any() or (over > counts).any())
        ):
            raise _damaged("histograms that do not add up")
        found = {}
        for key, size, end in zip(self._keys, self._bins, np.cumsum(self._bins), strict=True):
            if size:
                edges = np.cumsum(steps[end - size : end])
                if int(edges[-1]) >= END_BITS or bool((steps[end - size + 1 : end] < 1).any()):
                    raise _damaged(f"the histogram of {key} is not ascending")
                own = slice(end - size, end)
                found[key] = Histogram(edges.astype(np.uint16), counts[own], over[own])
        return found


def _damaged(what: str) -> DamagedError:
    return DamagedError(f"statistics record: {what}", hint="make it anew with `mp analyze --force`")
