"""`karcher`: the Riemannian mean of the models' directions, at their mean length (arXiv:2603.04972).

Relies on the fact gram. Promises: mergekit's iteration, carried out on coefficients in float64.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from mpstore.merge.operators import gram, task_vectors
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)

_OPPOSITE = 1e-7


def _direction(vectors: gram.Frame, units: gram.Coefficients, limit: int, tol: float) -> gram.Coefficients:
    """The mean direction, as factors of the v. `units` holds 1/‖v‖, 0 for a v too short to have one."""
    valid = np.flatnonzero(units)
    alpha = 1.0 / valid.size
    mean = units * alpha
    length = vectors.norm(mean)
    mean = np.where(np.arange(units.size) == valid[0], units, 0.0) if length < tol else mean / length
    for _ in range(limit):
        tangent = np.zeros_like(mean)
        for i in valid:
            unit = np.where(np.arange(units.size) == i, units, 0.0)
            cosine = float(np.clip(vectors.inner(mean, unit), -1.0, 1.0))
            angle = math.acos(cosine)
            # Opposite directions have no geodesic of their own: what would be added is rounding, blown up.
            if angle >= tol and math.pi - angle > _OPPOSITE:
                tangent += alpha * (angle / math.sin(angle)) * (unit - cosine * mean)
        step = vectors.norm(tangent)
        if not step >= tol:
            break
        mean = math.cos(step) * mean + math.sin(step) * (tangent / step)
        length = vectors.norm(mean)
        mean = mean / length if length > tol else mean
    return mean


@functools.lru_cache(maxsize=64)
def _factors(products: bytes, limit: int, tol: float) -> tuple[float, ...]:
    """Factors of the models from their inner products (K x K float64), once a tensor rather than a block."""
    square = np.frombuffer(products, np.float64)
    experts = math.isqrt(square.size)
    vectors = gram.Frame(tuple(range(experts)), square.reshape(experts, experts), weights=True)
    norms = vectors.norms()
    if np.isnan(norms).any():
        return (math.nan,) * experts
    units = np.where(norms > tol, 1.0 / np.maximum(norms, tol), 0.0)
    if not units.any():
        return (0.0,) * experts
    return tuple(_direction(vectors, units, limit, tol) * (math.fsum(norms) / experts))


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    vectors = gram.frame(facts, context, weights=True)
    if len(context.experts) == 1:
        return gram.combine(block, context, vectors, np.ones(1))
    tol = task_vectors.number(context, "tol", 1e-5)
    limit = int(task_vectors.number(context, "max_iter", 10))
    factors = _factors(vectors.products.tobytes(), limit, tol)
    return gram.combine(block, context, vectors, np.array(factors))


def _never(context: TensorContext) -> bool:
    del context
    return False


KARCHER = Operator(
    name="karcher",
    summary="mean of the models on the sphere",
    formula="uᵢ = xᵢ/‖xᵢ‖; repeat m ← exp_m(mean of log_m(uᵢ)) up to 10 times or until the step is < 1e-5; "
    "m · mean ‖xᵢ‖",
    source="Karcher 1977; mergekit's karcher, arXiv:2603.04972",
    parameters=(
        Parameter("max_iter", "global", "integer", 10, "most iterations", 1, 10_000),
        Parameter("tol", "global", "number", 1e-5, "shortest step, angle and norm that counts", 0.0, 1.0),
        Parameter("count_base", "global", "flag", True, "a base that is not listed is one of the models"),
    ),
    apply=_apply,
    gram=True,
    keeps_base=_never,
    base_required=False,
    base_counts="always",
)
