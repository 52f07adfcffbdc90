"""`norms`: value density of the certificate itself.

Relies on paths. Promises: at every budget the bound is the least that greedy reading gets to, and it falls
monotonically with the budget. Takes all experts' deltas in a block as parallel, which the bound must.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.merge.policies import paths
from mpstore.merge.policies.columns import Columns
from mpstore.merge.policies.omitted import Angles
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.problem import Problem


def _order(problem: Problem) -> npt.NDArray[np.int64]:
    def residual(columns: Columns) -> paths.Error:
        error = problem.certificate.error_of(columns.blocks)
        return lambda omitted, touched: np.square(error(omitted, touched))

    return paths.order(problem, Angles(known=problem.certificate.products), residual, problem.grouped)


NORMS = Policy(
    name="norms",
    summary="certified squared error removed per byte, from the norms of the deltas",
    order=_order,
    fills=True,
)
