"""`dare_ties`: random dropping, then sign election (arXiv:2311.03099 with arXiv:2306.01708).

Relies on dare. Promises: the masks of `dare_linear`.
"""

from __future__ import annotations

from mpstore.kernels.merge_numpy import Terms
from mpstore.merge.operators import dare
from mpstore.merge.operators.dare_linear import RESCALE
from mpstore.merge.operators.parameters import DENSITY, INT8_MASK, LAMBDA, WEIGHT, normalize
from mpstore.merge.operators.protocol import Array, Block, Facts, Operator, TensorContext


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    del facts
    return dare.apply(block, context, elect=True)


def _terms(facts: Facts, context: TensorContext) -> Terms | None:
    del facts
    return dare.terms(context, elect=True)


DARE_TIES = Operator(
    name="dare_ties",
    summary="drop at random, rescale, elect a sign, add those that agree",
    formula="δ̂ᵢ as dare_linear; yᵢ = wᵢδ̂ᵢ; s = sign Σyᵢ (0 is +); mᵢ = [sign yᵢ = s]; b + λΣyᵢmᵢ",
    source="Yu et al., Language Models are Super Mario, arXiv:2311.03099",
    parameters=(WEIGHT, DENSITY, LAMBDA, normalize(False), RESCALE, INT8_MASK),
    apply=_apply,
    terms=_terms,
    unit=dare.unit,
    random=True,
)
