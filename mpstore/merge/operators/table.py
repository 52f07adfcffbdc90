"""Every operator by name: the one explicit table.

Relies on the operators' files. Promises: names and aliases are unique; an unknown name is a UsageError that
says the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from mpstore.errors import UsageError
from mpstore.merge.operators.breadcrumbs import BREADCRUMBS, BREADCRUMBS_TIES
from mpstore.merge.operators.dare_linear import DARE_LINEAR
from mpstore.merge.operators.dare_ties import DARE_TIES
from mpstore.merge.operators.della import DELLA, DELLA_LINEAR
from mpstore.merge.operators.karcher import KARCHER
from mpstore.merge.operators.linear import AVERAGE, LINEAR
from mpstore.merge.operators.model_stock import MODEL_STOCK
from mpstore.merge.operators.multislerp import MULTISLERP
from mpstore.merge.operators.nearswap import NEARSWAP
from mpstore.merge.operators.nuslerp import NUSLERP
from mpstore.merge.operators.passthrough import PASSTHROUGH
from mpstore.merge.operators.protocol import Operator
from mpstore.merge.operators.sce import SCE
from mpstore.merge.operators.slerp import SLERP
from mpstore.merge.operators.task_arithmetic import TASK_ARITHMETIC
from mpstore.merge.operators.ties import TIES
from mpstore.merge.operators.tsv import TSV

_ALL = (
    LINEAR,
    AVERAGE,
    TASK_ARITHMETIC,
    TIES,
    DARE_LINEAR,
    DARE_TIES,
    BREADCRUMBS,
    BREADCRUMBS_TIES,
    DELLA_LINEAR,
    DELLA,
    SLERP,
    NUSLERP,
    MULTISLERP,
    KARCHER,
    MODEL_STOCK,
    SCE,
    NEARSWAP,
    PASSTHROUGH,
    TSV,
)

OPERATORS: Mapping[str, Operator] = MappingProxyType({one.name: one for one in _ALL})
ALIASES: Mapping[str, str] = MappingProxyType({alias: one.name for one in _ALL for alias in one.aliases})


def find(name: str) -> Operator:
    """The operator of that name or alias. Raises UsageError, with the nearest known name."""
    key = name.strip().lower().replace("-", "_")
    found = OPERATORS.get(ALIASES.get(key, key))
    if found is not None:
        return found
    near = difflib.get_close_matches(key, [*OPERATORS, *ALIASES], n=1, cutoff=0.55)
    raise UsageError(
        f"no merge operator is called {name!r}" + (f"; the nearest is {near[0]!r}" if near else ""),
        hint="the operators are " + ", ".join(sorted(OPERATORS)),
    )
