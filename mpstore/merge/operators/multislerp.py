"""`multislerp`: barycentric interpolation on a sphere, of models or of their deltas.

Relies on the fact gram. Promises: mergekit's Multi-SLERP, carried out on coefficients in float64; where the
unit vectors cancel it falls back to the weighted sum for any number of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mpstore.errors import UsageError
from mpstore.merge.operators import gram, task_vectors
from mpstore.merge.operators.nuslerp import VECTORS, keeps_base, on_weights
from mpstore.merge.operators.parameters import WEIGHT
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
    Value,
)


def _weights(context: TensorContext, order: tuple[int, ...]) -> gram.Coefficients:
    weights = np.array([context.experts[i].weight for i in order], np.float64)
    if task_vectors.flag(context, "normalize_weights", True):
        weights = weights / task_vectors.weights_sum(context)
    return weights


def _factors(vectors: gram.Frame, weights: gram.Coefficients, eps: float) -> gram.Coefficients:
    norms = vectors.norms()
    units = weights / (norms + eps)  # Σ w u, as factors of the v
    length = vectors.norm(units)
    if length < eps:
        return weights
    mean = units / length
    along = math.fsum(
        w * vectors.inner(np.eye(weights.size)[i] / (norms[i] + eps), mean) for i, w in enumerate(weights)
    )
    tangent = units - along * mean
    angle = vectors.norm(tangent) + eps
    scale = math.fsum(weights * norms)
    return (mean * math.cos(angle) + tangent * (math.sin(angle) / angle)) * scale


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    vectors = gram.frame(facts, context, weights=on_weights(context))
    if len(context.experts) == 1:
        return gram.combine(block, context, vectors, np.ones(1))
    eps = task_vectors.number(context, "eps", 1e-8)
    factors = _factors(vectors, _weights(context, vectors.order), eps)
    return gram.combine(block, context, vectors, factors)


def _check(params: Mapping[str, Value], experts: tuple[Mapping[str, Value], ...]) -> None:
    weights = [float(e.get("weight", 1.0)) for e in experts]
    if params.get("normalize_weights", True) and abs(math.fsum(weights)) < 1e-8:
        raise UsageError(f"multislerp divides by the sum of the weights, and {weights} sum to 0")


MULTISLERP = Operator(
    name="multislerp",
    summary="barycentric interpolation on a sphere of any number of models or deltas",
    formula="uᵢ = vᵢ/‖vᵢ‖; m = Σwᵢuᵢ normalized; T = Σwᵢ(uᵢ − (uᵢ·m)m); τ = ‖T‖; "
    "(m cos τ + T sin τ/τ)·Σwᵢ‖vᵢ‖; on deltas: b + that",
    source="Goddard, Multi-SLERP, goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    parameters=(
        WEIGHT,
        Parameter("normalize_weights", "global", "flag", True, "divide the weights by their sum"),
        Parameter("eps", "global", "number", 1e-8, "what keeps divisions away from 0", 0.0, 1.0),
        VECTORS,
    ),
    apply=_apply,
    gram=True,
    keeps_base=keeps_base,
    base_required=False,
    check=_check,
)
