"""`tsv`: Task Singular Vectors: each expert's strongest directions, made orthogonal to the others'.

Relies on LAPACK through numpy, in float64 on one thread so that thread counts do not show; another machine's
LAPACK may round the last bit differently. Promises: matrices only, other tensors are averaged.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mpstore.merge.operators import sums, task_vectors
from mpstore.merge.operators.parameters import LAMBDA
from mpstore.merge.operators.protocol import Array, Block, Facts, Operator, TensorContext

Matrix = npt.NDArray[np.float64]


def _is_matrix(context: TensorContext) -> bool:
    return len(context.shape) == 2 and min(context.shape) > 0


def _unit(context: TensorContext) -> int:
    return context.elements if _is_matrix(context) else 1


def _orthogonal(columns: Matrix) -> Matrix:
    """The nearest matrix with orthonormal columns: P Qᵀ of its singular value decomposition.

    Directions with a vanishing singular value have no nearest one and are left out, so that equal experts
    share theirs.
    """
    left, values, right = np.linalg.svd(columns, full_matrices=False)
    held = values > values[0] * max(columns.shape) * np.finfo(np.float64).eps
    nearest: Matrix = left[:, held] @ right[held]
    return nearest


def _triples(delta: Array, shape: tuple[int, ...], kept: int) -> tuple[Matrix, Matrix, Matrix]:
    """The strongest singular triples: U (m, k), S (k,), V (n, k).

    Those that a delta in float32 has by rounding alone are none: of a delta of low rank (an adapter's) they
    are all but a few, their directions are noise, and each would be as orthogonal as the others.
    """
    left, values, right = np.linalg.svd(delta.reshape(shape).astype(np.float64), full_matrices=False)
    rounding = values[0] * max(shape) * np.finfo(np.float32).eps  # as numpy's matrix_rank has it
    kept = min(kept, int(np.count_nonzero(values > rounding)))
    return left[:, :kept], values[:kept], right[:kept].T


def _merged(deltas: list[Array], context: TensorContext) -> Matrix | None:
    """Σ over orthogonalized triples, shape of the tensor; None where nothing is left."""
    kept = math.ceil(min(context.shape) / len(context.experts))
    triples = [_triples(delta, context.shape, kept) for delta in deltas]
    values = np.concatenate([s for _, s, _ in triples])
    if values.size == 0:
        return None
    left = _orthogonal(np.concatenate([u for u, _, _ in triples], axis=1))
    right = _orthogonal(np.concatenate([v for _, _, v in triples], axis=1))
    merged: Matrix = (left * values) @ right.T
    return merged


def _average(block: Block, context: TensorContext) -> Array:
    weights = (1.0 / len(context.experts),) * len(context.experts)
    return task_vectors.merge(block, context, elect=False, normalize=False, weights=weights)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    if not _is_matrix(context):
        return _average(block, context)
    deltas = sums.by_length(block)
    if not all(np.isfinite(delta).all() for delta in deltas):
        return _average(block, context)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        merged = _merged(deltas, context) if deltas else None
    out = task_vectors.output(block)
    if merged is None:
        out[:] = block.base
        return out
    change = (merged * task_vectors.number(context, "lambda", 1.0)).astype(np.float32).reshape(-1)
    np.add(block.base, change, out=out)
    np.copyto(out, block.base, where=change == 0)
    return out


def _scratch_bytes(elements: int, experts: int) -> int:
    return 8 * elements * (experts + 6)


TSV = Operator(
    name="tsv",
    summary="each expert's strongest singular directions, made orthogonal to the others'",
    formula="δᵢ = UᵢSᵢVᵢᵀ; the top ⌈r/K⌉ triples of each, side by side; U ← PQᵀ of its SVD, V likewise; "
    "b + λUSVᵀ; tensors that are no matrices: b + λ mean δ",
    source="Gargiulo et al., Task Singular Vectors, arXiv:2412.00081",
    parameters=(LAMBDA,),
    apply=_apply,
    unit=_unit,
    scratch_bytes=_scratch_bytes,
)
