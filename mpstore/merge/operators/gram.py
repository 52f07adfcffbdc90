"""The fact `gram`: inner products of base and deltas over a tensor, and vectors written in that basis.

Relies on task_vectors. Promises: the same bits whatever the block size (a multiple of 64 elements), and
results that do not show the experts' order: whoever computes with a `Frame` meets them by the length of their
delta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mpstore.merge.operators import task_vectors
from mpstore.merge.operators.protocol import Array, Block, Facts, TensorContext

_Float = TypeVar("_Float", bound=np.floating[Any])
Gram = npt.NDArray[np.float64]
Coefficients = npt.NDArray[np.float64]


def finite(values: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """With zeros for NaN and infinities, which stay out of all inner products: one element that is not finite
    would otherwise leave nothing of a tensor."""
    fine = np.isfinite(values)
    return values if fine.all() else np.where(fine, values, values.dtype.type(0))


@dataclass(frozen=True)
class Frame:
    """The models as vectors v_1 .. v_K, shortest delta first: `order[k]` is the recipe's position of v_k.

    products: (K, K) inner products. weights: v_i is the model x_i = b + delta_i itself; else its delta.
    """

    order: tuple[int, ...]
    products: Gram
    weights: bool

    def norms(self) -> Coefficients:
        """‖v_i‖, shape (K,)."""
        return np.sqrt(np.maximum(np.diagonal(self.products), 0.0))

    def inner(self, left: Coefficients, right: Coefficients) -> float:
        """<Σ left_i v_i, Σ right_i v_i>, exactly rounded."""
        terms = left[:, None] * self.products * right[None, :]
        return math.fsum(terms.ravel()) if np.isfinite(terms).all() else math.nan

    def norm(self, vector: Coefficients) -> float:
        """‖Σ vector_i v_i‖."""
        square = self.inner(vector, vector)
        return square if math.isnan(square) else math.sqrt(max(square, 0.0))


def frame(facts: Facts, context: TensorContext, *, weights: bool) -> Frame:
    """The experts' vectors, from the fact `gram`; of equally long deltas the lower key comes first."""
    if facts.gram is None:
        raise ValueError("this operator needs the fact gram")
    gram = facts.gram
    order = task_vectors.in_key_order(context.experts)
    order.sort(key=lambda i: (float(gram[i + 1, i + 1]), float(gram[0, i + 1])))
    index = [i + 1 for i in order]
    products = gram[np.ix_(index, index)]
    if weights:
        along = gram[0, index]
        products = gram[0, 0] + (along[:, None] + along[None, :]) + products
    return Frame(tuple(order), products, weights)


def combine(block: Block, context: TensorContext, vectors: Frame, factors: Coefficients) -> Array:
    """Σ factors_i v_i for one block; with deltas as vectors, the base is added."""
    by_position = [0.0] * len(context.experts)
    for position, factor in zip(vectors.order, factors, strict=True):
        by_position[position] = float(factor)
    base_scale = math.fsum(factors) if vectors.weights else 1.0
    return task_vectors.merge(
        block,
        context,
        elect=False,
        normalize=False,
        weights=by_position,
        factor=1.0,
        base_scale=base_scale,
    )
