"""`norms`: value density of the certificate itself.

Relies on paths. Promises: at every budget the bound is the least that greedy reading gets to, and it falls
monotonically with the budget. Takes all experts' deltas in a block as parallel, which the bound must.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpstore.merge.plan_inputs import Flags, Floats
from mpstore.merge.policies import paths
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.problem import Problem


def _order(problem: Problem) -> npt.NDArray[np.int64]:
    def residual(columns: paths.Columns, omitted: Floats, touched: Flags) -> Floats:
        errors = problem.certificate.block_errors(omitted, touched, columns.blocks)
        return np.square(errors)

    angles = paths.Angles(gram=problem.certificate.gram)
    families = [paths.single_blocks(problem), paths.whole_tensors(problem, problem.grouped)]
    return paths.number_units(
        problem, [(columns, paths.walk(problem, columns, angles, residual)) for columns in families]
    )


NORMS = Policy(
    name="norms",
    summary="certified squared error removed per byte, from the norms of the deltas",
    order=_order,
    fills=True,
)
