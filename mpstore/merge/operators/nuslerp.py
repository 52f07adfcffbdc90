"""`nuslerp`: spherical interpolation between two models, or between their deltas; whole or by rows.

Relies on the fact gram where tensors are flattened, else on rows being kept together. Promises: mergekit's
NuSLERP, with its two options.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.merge.operators import gram, task_vectors
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)

VECTORS = Parameter(
    "vectors",
    "global",
    "choice",
    "deltas",
    "what lies on the sphere: deltas from the base, or the weights (where a recipe names no base)",
    choices=("deltas", "weights"),
)
_PARALLEL = 1e-13  # of 1 - cos²: float64 products are good to about 1e-15


def on_weights(context: TensorContext) -> bool:
    """Whether the models themselves are interpolated, rather than their deltas."""
    return str(context.params.get("vectors", "deltas")) == "weights"


def keeps_base(context: TensorContext) -> bool:
    """Zero deltas leave the base alone where deltas are what is interpolated."""
    return not on_weights(context)


def _shares(context: TensorContext) -> tuple[float, float]:
    """w / Σw of the two models: 1 - t and t. Equal shares where the weights sum to nothing."""
    total = task_vectors.weights_sum(context)
    if abs(total) < 1e-6:
        return 0.5, 0.5
    return context.experts[0].weight / total, context.experts[1].weight / total


def _unit(context: TensorContext) -> int:
    if task_vectors.flag(context, "nuslerp_flatten", True):
        return 1
    if task_vectors.flag(context, "nuslerp_row_wise", False) and len(context.shape) > 1:
        return context.elements
    return context.shape[-1] if context.shape else 1


def _factors(products: npt.NDArray[np.float64], shares: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Factors of the two vectors, shape (2, ...), from <v0,v0>, <v0,v1>, <v1,v1>, shape (3, ...)."""
    norms = np.maximum(np.sqrt(np.maximum(products[[0, 2]], 0.0)), 1e-7)
    with np.errstate(all="ignore"):
        cosine = np.clip(products[1] / (norms[0] * norms[1]), -1.0, 1.0)
        parallel = 1.0 - cosine * cosine <= _PARALLEL
        angle = np.arccos(np.where(parallel, 0.0, cosine))
        curved = np.stack([np.sin(share * angle) / np.sin(angle) for share in shares])
    straight = np.stack([np.full_like(cosine, share) for share in shares])
    return np.where(parallel, straight, curved)


def _flattened(block: Block, facts: Facts, context: TensorContext) -> Array:
    vectors = gram.frame(facts, context, weights=on_weights(context))
    first, second = vectors.order
    shares = _shares(context)
    products = vectors.products[[0, 0, 1], [0, 1, 1]]
    return gram.combine(block, context, vectors, _factors(products, (shares[first], shares[second])))


def _by_rows(block: Block, context: TensorContext) -> Array:
    """Each row on a sphere of its own (nuslerp_row_wise: each vector along the first dimension)."""
    columns = task_vectors.flag(context, "nuslerp_row_wise", False) and len(context.shape) > 1
    length = max(context.shape[0] if columns else (context.shape[-1] if context.shape else 1), 1)
    shape = (length, -1) if columns else (-1, length)
    axis = 0 if columns else 1
    base = block.base.reshape(shape)
    deltas = [np.zeros_like(base) if d is None else d.reshape(shape) for d in block.deltas]
    wide = [d.astype(np.float64) + (base if on_weights(context) else 0.0) for d in deltas]
    finite = [gram.finite(w) for w in wide]
    products = np.stack([(finite[i] * finite[j]).sum(axis=axis) for i, j in ((0, 0), (0, 1), (1, 1))])
    factors = np.expand_dims(_factors(products, _shares(context)), axis + 1)
    merged = factors[0] * wide[0] + factors[1] * wide[1]
    if not on_weights(context):
        merged += base
    out = task_vectors.output(block)
    out[:] = merged.reshape(-1)
    return out


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    if task_vectors.flag(context, "nuslerp_flatten", True):
        return _flattened(block, facts, context)
    return _by_rows(block, context)


def _scratch_bytes(elements: int, experts: int) -> int:
    return 8 * elements * (experts + 4)


NUSLERP = Operator(
    name="nuslerp",
    summary="spherical interpolation between two models or their deltas",
    formula="t = w₂/(w₁ + w₂), 0.5 where that sum is 0; cos θ of v₁, v₂; "
    "(sin((1 − t)θ)·v₁ + sin(tθ)·v₂)/sin θ, linear where parallel; on deltas: b + that",
    source="mergekit's NuSLERP",
    parameters=(
        Parameter("weight", "model", "number", 1.0, "w: the model's weight", required=True),
        Parameter("nuslerp_flatten", "global", "flag", True, "one sphere for the tensor, or one a row"),
        Parameter("nuslerp_row_wise", "global", "flag", False, "not flattened: along the first dimension"),
        VECTORS,
    ),
    apply=_apply,
    gram=True,
    unit=_unit,
    scratch_bytes=_scratch_bytes,
    keeps_base=keeps_base,
    models=(2, 2),
    base_required=False,
)
