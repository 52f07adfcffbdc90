"""Trimming by magnitude: which ranks of |δ| an expert's window runs between.

Relies on the protocol. Promises: integers that depend on n and the parameters alone.
"""

from __future__ import annotations

from mpstore.merge.operators.protocol import ExpertContext, TensorContext


def kept_elements(elements: int, density: float) -> int:
    """⌊ρn⌋, at least 1: how many of the largest |δ| TIES keeps."""
    return min(max(1, int(density * elements)), elements)


def largest(expert: ExpertContext, elements: int) -> tuple[int, ...]:
    """The ascending rank of the smallest |δ| that is kept; none where everything is."""
    density = float(expert.params.get("density", 1.0))
    kept = kept_elements(elements, density)
    if density >= 1.0 or kept >= elements:
        return ()
    return (elements - kept + 1,)


def largest_ranks(context: TensorContext) -> tuple[tuple[int, ...], ...]:
    """Per expert, the rank that bounds its largest ⌊ρn⌋."""
    return tuple(largest(expert, context.elements) for expert in context.experts)
