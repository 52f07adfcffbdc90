"""`task_arithmetic`: add the weighted deltas to the base (arXiv:2212.04089).

Relies on task_vectors. Promises: fixed coefficients, so its bound is a certificate.
"""

from __future__ import annotations

from mpstore.kernels.merge_numpy import Terms
from mpstore.merge.operators import task_vectors
from mpstore.merge.operators.parameters import INT8_MASK, LAMBDA, WEIGHT, normalize
from mpstore.merge.operators.protocol import Facts, Operator, TensorContext


def _terms(facts: Facts, context: TensorContext) -> Terms:
    del facts
    by_sum = task_vectors.flag(context, "normalize", False)
    return task_vectors.terms(context, elect=False, normalize=by_sum)


TASK_ARITHMETIC = Operator(
    name="task_arithmetic",
    summary="the base plus the weighted deltas",
    formula="b + λΣwᵢδᵢ; normalize: true divides by Σwᵢ",
    source="Ilharco et al., Editing Models with Task Arithmetic, arXiv:2212.04089",
    parameters=(WEIGHT, LAMBDA, normalize(False), INT8_MASK),
    apply=task_vectors.by_terms(_terms),
    terms=_terms,
    additive=True,
    coefficients=task_vectors.merged_coefficients,
)
