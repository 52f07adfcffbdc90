"""`sketch`: value density of the expected error, with the overlap between experts' deltas estimated.

Relies on paths. Promises: pure; the expected error falls monotonically with the budget. A block's error is
|sum of lambda_i Delta_i| over the omitted; norms say how long the terms are, the sketches' inner products,
pooled over each tensor, at what angles they stand. One sketch of 32 numbers has a standard error of 0.18 in
the cosine, a tensor of m blocks 0.18 / sqrt(m), and what that leaves open is filled from the mean over all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats
from mpstore.merge.policies import expected, paths
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.problem import Problem, filled

_PRIOR_BLOCKS = 4.0
"""How many blocks' sketches the mean over all tensors weighs in a tensor's own."""


def cosines(problem: Problem) -> Floats:
    """(T, K, K): cosines between lambda_i Delta_i and lambda_j Delta_j, pooled over a tensor's blocks, shrunk
    towards the mean over all tensors; 1 on the diagonal, 0 where nothing is known."""
    experts, tensors = problem.experts, len(problem.grid.keys)
    top = np.zeros((tensors, experts, experts))  # sums over blocks of the estimated inner products
    bottom = np.zeros((tensors, experts, experts))  # what they would be if all were parallel
    blocks = np.zeros((tensors, experts, experts))
    for t in range(tensors):
        rows = slice(int(problem.grid.offsets[t]), int(problem.grid.offsets[t + 1]))
        vectors, sizes = _vectors(problem, rows)
        flat = vectors.reshape(experts, vectors.shape[1] * vectors.shape[2])  # -1 fails on no experts
        top[t], bottom[t] = flat @ flat.T, sizes @ sizes.T
        there = (sizes > 0).astype(np.float64)
        blocks[t] = there @ there.T
    overall = bottom.sum(axis=0)
    mean = np.divide(top.sum(axis=0), overall, out=np.zeros((experts, experts)), where=overall > 0)
    own = np.divide(top, bottom, out=np.broadcast_to(mean, top.shape).copy(), where=bottom > 0)
    trust = blocks / (blocks + _PRIOR_BLOCKS)
    found: Floats = np.clip(trust * own + (1 - trust) * mean, -1.0, 1.0)
    found *= (problem.sign[:, None, :] * problem.sign[None, :, :]).transpose(2, 0, 1)
    found[:, range(experts), range(experts)] = 1.0
    return found


def _vectors(problem: Problem, rows: slice) -> tuple[Floats, Floats]:
    """Sketches of some blocks as vectors of length |lambda Delta| (K, m, width), and these lengths (K, m);
    zeros where an expert has no sketch."""
    width = max((s.vectors.shape[1] for s in problem.sketches if s is not None), default=1)
    sizes = np.array(problem.error[:, rows])
    vectors = np.zeros((*sizes.shape, width))
    for row, sketches in enumerate(problem.sketches):
        if sketches is None:
            sizes[row] = 0.0
            continue
        vectors[row] = sketches.vectors[rows]
        length = np.sqrt(np.square(vectors[row]).sum(axis=1))
        sizes[row, length == 0.0] = 0.0
        vectors[row] *= (sizes[row] / np.maximum(length, 1.0))[:, None]
    return vectors, sizes


def angles_of(problem: Problem) -> paths.Angles:
    """Inner products where they are known, the sketches' cosines elsewhere."""
    similarity = cosines(problem)
    if problem.overlaps is None:
        return paths.Angles(similarity=similarity)
    spread = similarity[problem.tensor].transpose(1, 2, 0)
    return paths.Angles(gram=filled(problem.overlaps, problem.error, spread))


def _order(problem: Problem) -> npt.NDArray[np.int64]:
    angles = angles_of(problem)

    def residual(columns: paths.Columns, omitted: Floats, touched: Flags) -> Floats:
        return expected.squared_error(omitted, touched, expected.spacing(problem, columns.blocks))

    families = [paths.single_blocks(problem), paths.whole_tensors(problem, problem.grouped)]
    return paths.number_units(
        problem, [(columns, paths.walk(problem, columns, angles, residual)) for columns in families]
    )


SKETCH = Policy(
    name="sketch",
    summary="expected squared error removed per byte, with experts' overlap from sketches",
    order=_order,
    fills=True,
)
