"""The comparison: which tensors and files differ, and by how much.

Relies on sides, dtypes and statistics. Promises: sums are float64 in element order, so figures do not depend
on the partition; statistics in the store answer without a byte being read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
import numpy.typing as npt

from mpstore import blocks, dtypes
from mpstore.diff.sides import Raw, Side, TensorShape, is_float
from mpstore.dtypes import Dtype
from mpstore.errors import NotFoundError
from mpstore.events import Progress, silent
from mpstore.ids import ID_BYTES
from mpstore.statistics import DeltaStatistics
from mpstore.suggestions import nearest

State = Literal["changed", "added", "removed", "reshaped"]


@dataclass(frozen=True)
class Figures:
    """How far apart two tensors are: |b - a| / |a| in the l2 norm, max |b - a|, cosine of a and b.

    Over the elements that are finite in both; `nonfinite` counts the others. relative_l2 is infinite when a
    is zero and b is not; the cosine is None when either is zero.
    """

    relative_l2: float
    max_abs: float
    cosine: float | None
    nonfinite: int


@dataclass(frozen=True)
class TensorDiff:
    """One tensor that differs. "reshaped": another shape or dtype; `figures` when "changed" and float."""

    key: str
    state: State
    old: TensorShape | None
    new: TensorShape | None
    blocks: int
    changed_blocks: int
    figures: Figures | None = None


@dataclass(frozen=True)
class FileDiff:
    """One file that differs in what is no tensor: an opaque file, or a safetensors header."""

    path: str
    state: Literal["changed", "added", "removed"]
    old_bytes: int | None
    new_bytes: int | None


@dataclass(frozen=True)
class Diff:
    """Everything that differs, sorted by name, and how many tensors do not. `lacking`: tensors that cannot be
    compared, because one side never fetched them."""

    tensors: tuple[TensorDiff, ...]
    files: tuple[FileDiff, ...]
    equal_tensors: int
    lacking: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.tensors or self.files)


def compare(
    old: Side,
    new: Side,
    *,
    patterns: tuple[str, ...] = (),
    statistics: Callable[[], DeltaStatistics | None] = lambda: None,
    block_elements: int = blocks.DEFAULT_BLOCK_ELEMENTS,
    progress: Progress = silent,
) -> Diff:
    """What differs from `old` to `new`; `patterns`: only tensors whose key fits one, and no files.
    NotFoundError: neither side has one that fits.

    `statistics` gives those of (old, new) if they are known; `block_elements`: of a block where neither
    side has blocks of its own.
    """
    olds, news = old.tensors(), new.tensors()
    absent = old.lacking() | new.lacking()
    fitting = {
        key for key in (*olds, *news, *absent) if not patterns or any(fnmatchcase(key, p) for p in patterns)
    }
    if patterns and not fitting:
        raise NotFoundError(
            f"no tensor of either side fits {' or '.join(map(repr, patterns))}",
            hint=nearest(patterns[0], {*olds, *news, *absent}),
        )
    keys = sorted(fitting - absent)
    task = progress.task("comparing", len(keys), "tensors")
    known: list[DeltaStatistics | None] = []
    found = []
    try:
        for key in keys:
            size = _partition(olds.get(key), news.get(key)) or block_elements
            one = _tensor(key, olds.get(key), news.get(key), size, old, new)
            if one is not None and one.state == "changed" and is_float(news[key]):
                if not known:
                    known.append(statistics())
                figures = _from_statistics(known[0], key) or _measured(key, news[key], size, old, new)
                one = TensorDiff(key, "changed", one.old, one.new, one.blocks, one.changed_blocks, figures)
            if one is not None:
                found.append(one)
            task.advance(1)
    finally:
        task.finish()
    files = () if patterns else _files(old.files(), new.files())
    return Diff(tuple(found), files, len(keys) - len(found), tuple(sorted(fitting & absent)))


def _tensor(
    key: str, old_shape: TensorShape | None, new_shape: TensorShape | None, size: int, old: Side, new: Side
) -> TensorDiff | None:
    """How one tensor differs, without figures; None: not at all."""
    if old_shape is None or new_shape is None:
        one = new_shape or old_shape
        assert one is not None, "a key comes from one of the sides"
        count = blocks.count(one.elements, size)
        return TensorDiff(
            key, "added" if old_shape is None else "removed", old_shape, new_shape, count, count
        )
    count = blocks.count(new_shape.elements, size)
    if (old_shape.dtype, old_shape.shape) != (new_shape.dtype, new_shape.shape):
        return TensorDiff(key, "reshaped", old_shape, new_shape, count, count)
    changed = int(_changed(key, size, old, new).sum())
    return TensorDiff(key, "changed", old_shape, new_shape, count, changed) if changed else None


def _changed(key: str, size: int, old: Side, new: Side) -> npt.NDArray[np.bool_]:
    """Which blocks are not the same."""
    ids = [np.frombuffer(side.block_ids(key, size), f"V{ID_BYTES}") for side in (old, new)]
    return np.asarray(ids[0] != ids[1])


def _partition(*sides: TensorShape | None) -> int:
    """The first side's that has blocks of its own; 0: none has."""
    return next((side.block_elements for side in sides if side and side.block_elements), 0)


def _from_statistics(known: DeltaStatistics | None, key: str) -> Figures | None:
    """The figures from what was computed when the new side was added; None: not known."""
    if known is None or known.expert_kind != "full" or key not in known.keys:
        return None
    rows = known.rows(key)
    if rows.start == rows.stop or known.nonfinite[rows].any():
        return None
    base_sq, delta_sq = float(known.base_sq[rows].sum()), float(known.delta_sq[rows].sum())
    dot = float(known.dot_base_delta[rows].sum())
    return _figures(
        base_sq, base_sq + 2 * dot + delta_sq, base_sq + dot, delta_sq, float(known.delta_max[rows].max()), 0
    )


def _measured(key: str, shape: TensorShape, size: int, old: Side, new: Side) -> Figures:
    """The figures by reading: changed blocks of both sides, the others (for the norms) of the old one."""
    dtype: Dtype = dtypes.known(shape.dtype)
    changed = _changed(key, size, old, new)
    others = new.read(key, size, np.flatnonzero(changed).tolist())
    sums = np.zeros(4)
    most, nonfinite = 0.0, 0
    for differs, raw in zip(changed, old.read(key, size), strict=True):
        a = _wide(raw, dtype)
        b = _wide(next(others), dtype) if differs else a
        finite = np.isfinite(a) if b is a else np.isfinite(a) & np.isfinite(b)
        if not finite.all():
            nonfinite += int(finite.size - finite.sum())
            a, b = a[finite], b[finite]
        if not differs:
            sums[:3] += a @ a
            continue
        delta = b - a
        sums += (a @ a, b @ b, a @ b, delta @ delta)
        most = max(most, float(np.abs(delta).max(initial=0.0)))
    a_sq, b_sq, dot, delta_sq = map(float, sums)
    return _figures(a_sq, b_sq, dot, delta_sq, most, nonfinite)


def _wide(raw: Raw, dtype: Dtype) -> npt.NDArray[np.float64]:
    """The elements as float64; exact."""
    with np.errstate(invalid="ignore", over="ignore"):
        items = dtypes.as_array(raw, dtype) if dtype.name == "F64" else dtypes.to_float32(raw, dtype)
        return items.astype(np.float64)


def _figures(a_sq: float, b_sq: float, dot: float, delta_sq: float, most: float, nonfinite: int) -> Figures:
    relative = math.sqrt(delta_sq / a_sq) if a_sq else (math.inf if delta_sq else 0.0)
    lengths = math.sqrt(max(a_sq, 0.0)) * math.sqrt(max(b_sq, 0.0))
    cosine = max(-1.0, min(1.0, dot / lengths)) if lengths else None
    return Figures(relative, most, cosine, nonfinite)


def _files(
    olds: Mapping[str, tuple[int, bytes]], news: Mapping[str, tuple[int, bytes]]
) -> tuple[FileDiff, ...]:
    found = []
    for path in sorted({*olds, *news}):
        before, after = olds.get(path), news.get(path)
        if before is None or after is None:
            state: Literal["added", "removed"] = "added" if before is None else "removed"
            found.append(FileDiff(path, state, before and before[0], after and after[0]))
        elif before[1] != after[1]:
            found.append(FileDiff(path, "changed", before[0], after[0]))
    return tuple(found)
