"""`nearswap`: move to the other model where it is near (alchemonaut, QuartetAnemoi).

Relies on numpy. Promises: block-local; no element moves further than min(|δ|, t).
"""

from __future__ import annotations

import numpy as np

from mpstore.merge.operators import task_vectors
from mpstore.merge.operators.protocol import (
    Array,
    Block,
    Facts,
    Operator,
    Parameter,
    TensorContext,
)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    out = task_vectors.output(block)
    delta = block.deltas[0]
    if delta is None:
        out[:] = block.base
        return out
    t = np.float32(task_vectors.number(context, "t", 0.0))
    with np.errstate(all="ignore"):
        share = np.abs(delta)
        np.maximum(share, np.float32(1e-6), out=share)
        np.divide(t, share, out=share)
        np.clip(share, np.float32(0), np.float32(1), out=share)
        share *= delta
        np.add(block.base, share, out=out)
    np.copyto(out, block.base, where=share == 0)
    return out


def _coefficients(context: TensorContext) -> tuple[float, ...]:
    return (1.0,) * len(context.experts)


NEARSWAP = Operator(
    name="nearswap",
    summary="move to the other model where it is near",
    formula="w = clamp(t/max(|x − b|, 1e-6), 0, 1); (1 − w)b + wx",
    source="alchemonaut, huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    parameters=(Parameter("t", "global", "number", 0.0, "how far an element moves at most", required=True),),
    apply=_apply,
    additive=True,
    coefficients=_coefficients,
    models=(1, 1),
)
