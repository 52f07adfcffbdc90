"""Trimming by magnitude: which ranks of |δ| an expert's window runs between, and what makes up for the rest.

Relies on the protocol. Promises: ranks depend on n and the parameters alone; sums are exactly rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mpstore.merge.operators import sums
from mpstore.merge.operators.parameters import rescale
from mpstore.merge.operators.protocol import Array, Block, ExpertContext, TensorContext

RESCALE = rescale("false", "true and l1: times Σ|δ|/Σ|kept δ| (mergekit); needs whole tensors; false: not")


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


def rescaled(context: TensorContext) -> bool:
    """Whether what is kept is scaled up so that Σ|δ| stays."""
    return str(context.params.get("rescale", "false")) != "false"


def unit(context: TensorContext) -> int:
    """Σ|δ| is over the whole tensor; trimming alone needs nothing."""
    return context.elements if rescaled(context) else 1


def _inside(delta: Array, low: float, high: float) -> Callable[[slice], npt.NDArray[np.bool_]]:
    def kept(window: slice) -> npt.NDArray[np.bool_]:
        magnitude = np.abs(delta[window])
        return ~((magnitude < low) | (magnitude > high))

    return kept


def window_scales(block: Block, windows: Sequence[tuple[float, float]]) -> list[float]:
    """Per expert the factor that restores Σ|δ| after its window of |δ|."""
    scales = []
    for delta, (low, high) in zip(block.deltas, windows, strict=True):
        if delta is None:
            scales.append(1.0)
        else:
            after = sums.magnitudes(delta, _inside(delta, low, high))
            scales.append(sums.l1_ratio(sums.magnitudes(delta), after))
    return scales
