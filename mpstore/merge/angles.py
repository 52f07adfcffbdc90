"""At what angles the experts' deltas stand: cosines from their sketches.

Relies on numpy and plan_inputs. Promises: pure, and the same bits on every machine: what a matrix product
sums are whole numbers below 2^53 altogether, so that no order of adding shows in it.

One sketch of 32 numbers has a standard error of 0.18 in the cosine, a tensor of m blocks 0.18 / sqrt(m), and
what that leaves open is filled from the mean over all tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpstore import kernels
from mpstore.merge.plan_inputs import Floats, Grid, Integers, Sketches

_PRIOR_BLOCKS = 4.0
"""How many blocks' sketches the mean over all tensors weighs in a tensor's own."""
_MOST_BLOCKS = 128
"""Of a larger tensor its heaviest blocks speak for all: they leave a standard error of 0.016."""
_EXACT_BITS = 52


def cosines(grid: Grid, error: Floats, sign: Floats, sketches: Sequence[Sketches | None]) -> Floats:
    """(T, K, K): cosines between lambda_i Delta_i and lambda_j Delta_j, pooled over a tensor's blocks, shrunk
    towards the mean over all tensors; 1 on the diagonal, 0 where nothing is known. `error` (K, N) are the
    lengths |lambda_i Delta_i|, `sign` (K, T) the signs of lambda."""
    experts, tensors = len(error), len(grid.keys)
    top = np.zeros((tensors, experts, experts))  # sums over blocks of the estimated inner products
    bottom = np.zeros((tensors, experts, experts))  # what they would be if all were parallel
    blocks = np.zeros((tensors, experts, experts))
    moved = np.square(error).sum(axis=0)
    for t in range(tensors):
        rows = _heaviest(moved, int(grid.offsets[t]), int(grid.offsets[t + 1]))
        top[t], bottom[t], blocks[t] = _pooled(error[:, rows], sketches, rows)
    overall = bottom.sum(axis=0)
    mean = np.divide(top.sum(axis=0), overall, out=np.zeros((experts, experts)), where=overall > 0)
    own = np.divide(top, bottom, out=np.broadcast_to(mean, top.shape).copy(), where=bottom > 0)
    trust = blocks / (blocks + _PRIOR_BLOCKS)
    found: Floats = np.clip(trust * own + (1 - trust) * mean, -1.0, 1.0)
    found *= (sign[:, None, :] * sign[None, :, :]).transpose(2, 0, 1)
    found[:, range(experts), range(experts)] = 1.0
    return found


def _heaviest(moved: Floats, start: int, stop: int) -> Integers:
    """A tensor's blocks, or those in which most has moved."""
    if stop - start <= _MOST_BLOCKS:
        return np.arange(start, stop)
    return np.sort(np.argsort(-moved[start:stop], kind="stable")[:_MOST_BLOCKS]) + start


def _pooled(
    error: Floats, sketches: Sequence[Sketches | None], rows: Integers
) -> tuple[Floats, Floats, Floats]:
    """Sums over some blocks (K, K): inner products, products of lengths, and how many blocks have both."""
    kernel = kernels.pick("sketches")
    vectors = [None if one is None else one.vectors for one in sketches]
    width = max((one.shape[1] for one in vectors if one is not None), default=1)
    length = np.sqrt(kernel.squares(vectors, rows, width))
    sizes = np.where(length > 0, error, 0.0)
    bits = (_EXACT_BITS - max(len(rows) * width - 1, 1).bit_length()) // 2
    scaled, unit = _whole(np.divide(sizes, length, out=np.zeros_like(sizes), where=length > 0), bits - 7)
    whole, size_unit = _whole(sizes, bits)
    there = (sizes > 0).astype(np.float64)
    inner = kernel.products(vectors, rows, width, scaled)
    return inner * (unit * unit.T), (whole @ whole.T) * (size_unit * size_unit.T), there @ there.T


def _whole(values: Floats, bits: int) -> tuple[Floats, Floats]:
    """Each row (K, n) as whole numbers of at most so many bits, and what one of them is worth (K, 1)."""
    unit = values.max(axis=1, initial=0.0, keepdims=True) / 2.0**bits
    numbers = np.rint(np.divide(values, unit, out=np.zeros_like(values), where=unit > 0))
    return numbers, unit
