"""`slerp`: spherical interpolation between base and one model (Shoemake 1985).

Relies on the fact gram. Promises: the coefficients are those of the whole flattened tensor.
"""

from __future__ import annotations

import math

from mpstore.merge.operators import task_vectors
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)

_ALMOST_PARALLEL = 0.9995


def _never(context: TensorContext) -> bool:
    del context
    return False


def _factors(facts: Facts, t: float) -> tuple[float, float]:
    """The factors of base and model. A norm of at most 1e-8 counts as 1."""
    if facts.gram is None:
        raise ValueError("slerp needs the fact gram")
    square, along, delta = float(facts.gram[0, 0]), float(facts.gram[0, 1]), float(facts.gram[1, 1])
    first = math.sqrt(square)
    second = math.sqrt(max(square + 2 * along + delta, 0.0))
    cosine = (square + along) / ((first if first > 1e-8 else 1.0) * (second if second > 1e-8 else 1.0))
    if not abs(cosine) <= _ALMOST_PARALLEL:  # NaN interpolates linearly
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    t = task_vectors.number(context, "t", 0.5)
    first, second = _factors(facts, t)
    straight = first == 1.0 - t and second == t
    return task_vectors.merge(
        block,
        context,
        elect=False,
        normalize=False,
        weights=(second,),
        factor=1.0,
        base_scale=1.0 if straight else first + second,
    )


SLERP = Operator(
    name="slerp",
    summary="spherical interpolation between base and one model",
    formula="cos θ of the flattened tensors; (sin((1 − t)θ)·b + sin(tθ)·x) / sin θ; "
    "|cos θ| > 0.9995: (1 − t)b + tx",
    source="Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; mergekit's slerp",
    parameters=(Parameter("t", "global", "number", 0.5, "0 is the base, 1 the other model", required=True),),
    apply=_apply,
    gram=True,
    keeps_base=_never,
    models=(1, 1),
)
