"""`sketch`: value density of the expected error, with the overlap between experts' deltas estimated.

Relies on paths. Promises: pure; the expected error falls monotonically with the budget. A block's error is
|sum of lambda_i Delta_i| over the omitted; norms say how long the terms are, the sketches' inner products,
pooled over each tensor, at what angles they stand.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.merge.policies import expected, paths
from mpstore.merge.policies.columns import Columns
from mpstore.merge.policies.omitted import Angles
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.problem import Problem


def angles_of(problem: Problem) -> Angles:
    """Inner products where they are known, the sketches' cosines elsewhere."""
    if problem.expected_products is not None:
        return Angles(known=problem.expected_products)
    return Angles(similarity=problem.cosines)


def _order(problem: Problem) -> npt.NDArray[np.int64]:
    def residual(columns: Columns) -> paths.Error:
        spacings = expected.spacing(problem, columns.blocks)
        return lambda omitted, touched: expected.squared_error(omitted, touched, spacings)

    return paths.order(problem, angles_of(problem), residual, problem.grouped)


SKETCH = Policy(
    name="sketch",
    summary="expected squared error removed per byte, with experts' overlap from sketches",
    order=_order,
    fills=True,
)
