"""`ties`: trim by magnitude, elect a sign, average those that agree (arXiv:2306.01708).

Relies on task_vectors. Promises: every |δ| at or above the threshold is kept, ties included, so blocks and
order do not matter.
"""

from __future__ import annotations

from mpstore.kernels.merge_numpy import Terms
from mpstore.merge.operators import magnitude, task_vectors
from mpstore.merge.operators.magnitude import RESCALE, largest_ranks
from mpstore.merge.operators.parameters import DENSITY, INT8_MASK, LAMBDA, WEIGHT, normalize
from mpstore.merge.operators.protocol import Array, Block, Facts, Operator, TensorContext
from mpstore.merge.operators.task_vectors import Window


def _columns(windows: list[Window], context: TensorContext, scales: list[float] | None) -> Terms:
    divide = task_vectors.flag(context, "normalize", True)
    return task_vectors.terms(context, elect=True, normalize=divide, windows=windows, scales=scales)


def _terms(facts: Facts, context: TensorContext) -> Terms | None:
    if magnitude.rescaled(context):
        return None
    return _columns(task_vectors.windows_from(facts, context, largest_ranks(context)), context, None)


def _apply(block: Block, facts: Facts, context: TensorContext) -> Array:
    windows = task_vectors.windows_from(facts, context, largest_ranks(context))
    scales = magnitude.window_scales(block, windows) if magnitude.rescaled(context) else None
    return task_vectors.combine(block, _columns(windows, context, scales))


TIES = Operator(
    name="ties",
    summary="trim by magnitude, elect a sign, average those that agree",
    formula="δ̂ᵢ = δᵢ where |δᵢ| ≥ its ⌊ρn⌋-th largest, else 0; yᵢ = wᵢδ̂ᵢ; s = sign Σyᵢ (0 is +); "
    "mᵢ = [sign yᵢ = s]; b + λΣyᵢmᵢ / Σwᵢmᵢ",
    source="Yadav et al., TIES-Merging, arXiv:2306.01708",
    parameters=(WEIGHT, DENSITY, LAMBDA, normalize(True), RESCALE, INT8_MASK),
    apply=_apply,
    terms=_terms,
    ranks=largest_ranks,
    unit=magnitude.unit,
)
