"""Every policy by name: the one explicit table.

Relies on the policies' files. Promises: an unknown name is a UsageError that says the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mpstore.errors import UsageError
from mpstore.merge.policies.norms import NORMS
from mpstore.merge.policies.protocol import Policy
from mpstore.merge.policies.sketch import SKETCH
from mpstore.merge.policies.spread import PER_LAYER, RANDOM, UNIFORM, WHOLE_TENSOR

POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {one.name: one for one in (SKETCH, NORMS, PER_LAYER, UNIFORM, RANDOM, WHOLE_TENSOR)}
)
DEFAULT: Final = "sketch"
"""For a budget: the least error in fact (docs/planning.md has the comparison)."""
DEFAULT_FOR_ERROR: Final = "norms"
"""For an error limit: the least bytes for which the certificate holds."""


def find(name: str) -> Policy:
    """The policy of that name. Raises UsageError, with the nearest known name."""
    key = name.strip().lower().replace("_", "-")
    if key in POLICIES:
        return POLICIES[key]
    near = difflib.get_close_matches(key, POLICIES, n=1, cutoff=0.5)
    raise UsageError(
        f"no policy is called {name!r}" + (f"; the nearest is {near[0]!r}" if near else ""),
        hint="the policies are " + ", ".join(POLICIES),
    )
