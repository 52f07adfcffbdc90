"""`passthrough`: one model's tensor, scaled (layer stacks: "frankenmerges").

Relies on task_vectors. Promises: without a scale the tensor is the source's, bit for bit: the recipe makes
the source the base, so nothing is read.
"""

from __future__ import annotations

from mpstore.merge.operators import task_vectors
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)


def _scale(context: TensorContext) -> float:
    return task_vectors.number(context, "scale", 1.0)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    scale = _scale(context)
    weights = (scale,) * len(context.experts)
    return task_vectors.merge(
        block, context, elect=False, normalize=False, weights=weights, factor=1.0, base_scale=scale
    )


def _keeps_base(context: TensorContext) -> bool:
    return _scale(context) == 1.0


def _coefficients(context: TensorContext) -> tuple[float, ...]:
    return (abs(_scale(context)),) * len(context.experts)


PASSTHROUGH = Operator(
    name="passthrough",
    summary="one model's tensors, possibly scaled; stacks of layers",
    formula="x · scale",
    source="mergekit's passthrough",
    parameters=(Parameter("scale", "both", "number", 1.0, "factor of the tensor"),),
    apply=_apply,
    additive=True,
    coefficients=_coefficients,
    keeps_base=_keeps_base,
    models=(0, None),
    base_required=False,
)
