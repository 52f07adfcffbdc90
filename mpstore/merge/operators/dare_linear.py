"""`dare_linear`: random dropping, then the weighted sum (arXiv:2311.03099).

Relies on dare. Promises: fixed masks and, but for `rescale: l1`, factors: its bound is a certificate.
"""

from __future__ import annotations

from mpstore.kernels.merge_numpy import Terms
from mpstore.merge.operators import dare, task_vectors
from mpstore.merge.operators.parameters import DENSITY, INT8_MASK, LAMBDA, WEIGHT, normalize, rescale
from mpstore.merge.operators.protocol import Array, Block, Facts, Operator, TensorContext

RESCALE = rescale(
    "true", "true: times 1/ρ (the paper, PEFT); l1: times Σ|δ|/Σ|kept δ| (mergekit); false: not"
)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    return dare.apply(block, context, elect=False)


def _terms(facts: Facts, context: TensorContext) -> Terms | None:
    del facts
    return dare.terms(context, elect=False)


def _coefficients(context: TensorContext) -> tuple[float, ...]:
    return task_vectors.merged_coefficients(context, dare.scales(context))


DARE_LINEAR = Operator(
    name="dare_linear",
    summary="drop at random, rescale, add",
    formula="δ̂ᵢ = δᵢ · [drawn with probability ρ] / ρ; b + λΣwᵢδ̂ᵢ",
    source="Yu et al., Language Models are Super Mario, arXiv:2311.03099",
    parameters=(WEIGHT, DENSITY, LAMBDA, normalize(False), RESCALE, INT8_MASK),
    apply=_apply,
    terms=_terms,
    additive=True,
    coefficients=_coefficients,
    unit=dare.unit,
    random=True,
)
