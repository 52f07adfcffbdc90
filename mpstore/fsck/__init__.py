"""fsck: what is missing or damaged, what that touches, and mending it.

Relies on repository, reachability and store. `check` and `repair` are all that other rooms need.
"""

from mpstore.fsck.checks import Damage, check_names, check_objects, check_packs
from mpstore.fsck.report import FsckReport
from mpstore.fsck.run import check, repair
from mpstore.fsck.subset import Subset, parse_subset
from mpstore.fsck.touched import Touched

__all__ = [
    "Damage",
    "FsckReport",
    "Subset",
    "Touched",
    "check",
    "check_names",
    "check_objects",
    "check_packs",
    "parse_subset",
    "repair",
]
