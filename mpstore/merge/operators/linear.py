"""`linear` and `average`: the weighted mean of the models (model soups, arXiv:2203.05482).

Relies on task_vectors. Promises: b + Σ(wᵢ/W)δᵢ, the same number as Σwᵢxᵢ/W; fixed coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mpstore.errors import UsageError
from mpstore.kernels.merge_numpy import Terms
from mpstore.merge.operators import task_vectors
from mpstore.merge.operators.parameters import WEIGHT, normalize
from mpstore.merge.operators.protocol import Facts, Operator, TensorContext, Value


def _shares(context: TensorContext) -> tuple[tuple[float, ...], float]:
    """The factor of each delta, and of the base. A base listed as a model is an expert without a delta."""
    total = task_vectors.weights_sum(context)
    if not task_vectors.flag(context, "normalize", True):
        return tuple(e.weight for e in context.experts), total
    return tuple(e.weight / total for e in context.experts), 1.0


def _terms(facts: Facts, context: TensorContext) -> Terms:
    del facts
    shares, base_scale = _shares(context)
    return task_vectors.terms(
        context, elect=False, normalize=False, weights=shares, factor=1.0, base_scale=base_scale
    )


def _coefficients(context: TensorContext) -> tuple[float, ...]:
    return tuple(abs(share) for share in _shares(context)[0])


def _keeps_base(context: TensorContext) -> bool:
    return _shares(context)[1] == 1.0


def _check(params: Mapping[str, Value], experts: tuple[Mapping[str, Value], ...]) -> None:
    if not params.get("normalize", True):
        return
    weights = [float(e.get("weight", 1.0)) for e in experts]
    if abs(math.fsum(weights)) < 1e-8:
        raise UsageError(
            f"linear divides by the sum of the weights, and {weights} sum to 0",
            hint="change the weights, or set normalize: false",
        )


def _equal(context: TensorContext) -> tuple[float, ...]:
    return (1.0 / len(context.experts),) * len(context.experts)


def _average(facts: Facts, context: TensorContext) -> Terms:
    del facts
    return task_vectors.terms(context, elect=False, normalize=False, weights=_equal(context), factor=1.0)


LINEAR = Operator(
    name="linear",
    summary="weighted mean of the models",
    formula="Σwᵢxᵢ / Σwᵢ = b + Σ(wᵢ/Σw)δᵢ; normalize: false gives Σwᵢxᵢ",
    source="Wortsman et al., Model soups, arXiv:2203.05482",
    parameters=(WEIGHT, normalize(True)),
    apply=task_vectors.by_terms(_terms),
    terms=_terms,
    additive=True,
    coefficients=_coefficients,
    keeps_base=_keeps_base,
    base_required=False,
    base_counts="listed",
    check=_check,
)

AVERAGE = Operator(
    name="average",
    summary="mean of the models",
    formula="Σxᵢ / K = b + Σδᵢ / K",
    source="Wortsman et al., Model soups, arXiv:2203.05482",
    parameters=(),
    apply=task_vectors.by_terms(_average),
    terms=_average,
    additive=True,
    coefficients=_equal,
    base_required=False,
    base_counts="listed",
    aliases=("mean",),
)
