"""`breadcrumbs` and `breadcrumbs_ties`: drop the largest and the smallest deltas (arXiv:2312.06795).

Relies on task_vectors. Promises: every |δ| between the two thresholds is kept, ties included.
"""

from __future__ import annotations

from mpstore.merge.operators import magnitude, task_vectors
from mpstore.merge.operators.magnitude import RESCALE
from mpstore.merge.operators.parameters import DENSITY, GAMMA, INT8_MASK, LAMBDA, WEIGHT, normalize
from mpstore.merge.operators.protocol import Array, Block, ExpertContext, Facts, Operator, TensorContext
from mpstore.merge.operators.task_vectors import DROP_ALL, Window


def _kept_ranks(expert: ExpertContext, elements: int) -> range:
    """The ascending ranks that are kept: ⌊ρn⌋ of them, below the ⌊γn⌋ largest as far as there is room."""
    density = task_vectors.density(expert)
    if density >= 1.0:
        return range(1, elements + 1)
    kept = int(density * elements)
    top = int(float(expert.params.get("gamma", 0.01)) * elements)
    bottom = max(0, elements - kept - top)
    return range(bottom + 1, bottom + kept + 1)


def _ranks(context: TensorContext) -> tuple[tuple[int, ...], ...]:
    asked: list[tuple[int, ...]] = []
    for expert in context.experts:
        kept = _kept_ranks(expert, context.elements)
        asked.append((kept[0], kept[-1]) if 0 < len(kept) < context.elements else ())
    return tuple(asked)


def _windows(facts: Facts, context: TensorContext) -> list[Window]:
    windows = task_vectors.windows_from(facts, context, _ranks(context))
    for i, expert in enumerate(context.experts):
        if not _kept_ranks(expert, context.elements):
            windows[i] = DROP_ALL
    return windows


def _merge(block: Block, facts: Facts, context: TensorContext, elect: bool) -> Array:
    divide = task_vectors.flag(context, "normalize", False)
    windows = _windows(facts, context)
    scales = magnitude.window_scales(block, windows) if magnitude.rescaled(context) else None
    return task_vectors.merge(block, context, elect=elect, normalize=divide, windows=windows, scales=scales)


def _plain(block: Block, facts: Facts, context: TensorContext) -> Array:
    return _merge(block, facts, context, elect=False)


def _elected(block: Block, facts: Facts, context: TensorContext) -> Array:
    return _merge(block, facts, context, elect=True)


_PARAMETERS = (WEIGHT, DENSITY, GAMMA, LAMBDA, normalize(False), RESCALE, INT8_MASK)
_SOURCE = "Davari & Belilovsky, Model Breadcrumbs, arXiv:2312.06795"

BREADCRUMBS = Operator(
    name="breadcrumbs",
    summary="drop the largest and the smallest deltas, add the rest",
    formula="δ̂ᵢ = δᵢ where the ascending rank of |δᵢ| lies in (n − ⌊ρn⌋ − ⌊γn⌋, n − ⌊γn⌋], else 0; "
    "b + λΣwᵢδ̂ᵢ",
    source=_SOURCE,
    parameters=_PARAMETERS,
    apply=_plain,
    ranks=_ranks,
    unit=magnitude.unit,
    coefficients=task_vectors.merged_coefficients,
)

BREADCRUMBS_TIES = Operator(
    name="breadcrumbs_ties",
    summary="drop the largest and the smallest deltas, elect a sign, add those that agree",
    formula="δ̂ᵢ as breadcrumbs; yᵢ = wᵢδ̂ᵢ; s = sign Σyᵢ (0 is +); mᵢ = [sign yᵢ = s]; b + λΣyᵢmᵢ",
    source=_SOURCE + "; Yadav et al., arXiv:2306.01708",
    parameters=_PARAMETERS,
    apply=_elected,
    ranks=_ranks,
    unit=magnitude.unit,
)
