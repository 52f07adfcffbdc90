"""What the operator makes of each expert: its factors, signs and ranks, and where it can have no effect.

Relies on the operators' protocol and plan_inputs. Promises: pure; a block that is dropped from the candidates
would not have changed a bit of the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mpstore.merge.gather_expert import Expert
from mpstore.merge.operators.protocol import Operator, TensorContext
from mpstore.merge.plan_inputs import ExpertColumns, Flags, Integers


def coefficients(op: Operator, context: TensorContext) -> tuple[float, ...]:
    """|lambda| of each expert in one tensor, or what stands in for it."""
    if op.coefficients is not None:
        return op.coefficients(context)
    return tuple(abs(expert.weight) for expert in context.experts)


def with_terms(
    columns: Sequence[ExpertColumns],
    op: Operator,
    contexts: Sequence[TensorContext],
    params: Sequence[Mapping[str, object]],
) -> list[ExpertColumns]:
    """The columns with what the operator makes of each expert: its factor, sign and ranks per tensor."""
    factors = [coefficients(op, context) for context in contexts]
    ranks = [op.ranks(context) for context in contexts]
    return [
        replace(
            one,
            params=dict(params[number]),
            coefficient=np.array([factor[number] for factor in factors], np.float64),
            sign=np.array([-1.0 if c.experts[number].weight < 0 else 1.0 for c in contexts]),
            ranked=np.array([bool(rank[number]) for rank in ranks], np.bool_),
        )
        for number, one in enumerate(columns)
    ]


def without_weightless(
    columns: Sequence[ExpertColumns],
    op: Operator,
    contexts: Sequence[TensorContext],
    found: Sequence[Expert],
    offsets: Integers,
) -> list[ExpertColumns]:
    """The columns without the tensors that cannot reach the output: those in which the expert weighs 0, as
    filters and gradients in recipes make it, and is known to be finite."""
    if not op.weighs_deltas:
        return list(columns)
    weighed = np.array([op.keeps_base(context) for context in contexts], np.bool_)
    return [
        _without(one, weighed & (one.coefficient == 0), whose.finite, offsets)
        for one, whose in zip(columns, found, strict=True)
    ]


def _without(one: ExpertColumns, tensors: Flags, finite: Flags, offsets: Integers) -> ExpertColumns:
    """The columns without those of `tensors` (T,) that are finite as a whole."""
    idle = np.zeros(len(finite), np.bool_)
    for t in np.flatnonzero(tensors):
        span = slice(int(offsets[t]), int(offsets[t + 1]))
        idle[span] = finite[span].all()
    if not idle.any():
        return one
    return replace(
        one,
        candidate=one.candidate & ~idle,
        frame_bytes=np.where(idle, 0, one.frame_bytes),
        foreign=np.where(idle, -1, one.foreign),
        foreign_bytes=np.where(idle, 0, one.foreign_bytes),
    )
